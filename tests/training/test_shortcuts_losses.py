"""The losses of both stages on hand-made tensors, where gradients go, and that a step helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from shortcut_scenes import examples, new_model, new_student, tokenizer

from sottovoce_training.reasoner.data import IGNORED
from sottovoce_training.shortcuts.criticality import exit_weights
from sottovoce_training.shortcuts.data import Lesson, explicit_batch, latent_batch
from sottovoce_training.shortcuts.losses import (
    Losses,
    early_exit_mse,
    joint_losses,
    latent_losses,
    layers_run,
    nll,
    shortcut_losses,
    state_mse,
)
from sottovoce_training.shortcuts.modules import Gate, Variant
from sottovoce_training.shortcuts.student import Student, new_shortcuts
from sottovoce_training.steps import StepDecoder, step_texts

close = torch.testing.assert_close
PAD = tokenizer().pad_token_id


def lesson_of(num_latents: int, *indices: int) -> Lesson:
    group = examples(*(indices or (0, 30, 90)))
    latent = latent_batch(group, num_latents, PAD) if num_latents else None
    return Lesson(explicit_batch(group, PAD), latent)


class Copying(Student):
    """A head that takes states as logits."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def test_nll_is_of_labelled_tokens_only() -> None:
    student = Copying(new_model(), new_shortcuts(new_model(), Variant()))
    hidden = torch.log(torch.tensor([[[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]]))
    found = nll(student, hidden, torch.tensor([[1, IGNORED, 0]]))
    assert found.item() == pytest.approx(-(math.log(0.75) + math.log(0.9)) / 2)


def test_state_mse_teaches_the_student_only() -> None:
    ours, theirs = (torch.tensor(x, requires_grad=True) for x in ([[1.0, 2.0]], [[3.0, 2.0]]))
    found = state_mse(ours, theirs)
    assert found.item() == 2.0
    torch.autograd.backward(found)
    assert ours.grad is not None
    assert ours.grad.tolist() == [[-2.0, 0.0]]
    assert theirs.grad is None


def test_early_exit_mse_on_two_layers_and_three_positions() -> None:
    final = torch.tensor([[[1.0, 1.0], [0.0, 0.0], [9.0, 9.0]]], requires_grad=True)
    states = torch.tensor(
        [[[[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]], [[[1.0, 1.0], [0.0, 4.0], [0.0, 0.0]]]],
        requires_grad=True,
    )
    weights = exit_weights(torch.tensor([[0.0, 1.0, 0.0]]), 2)  # 2/3 and 1/3, or 0 and 1
    is_counted = torch.tensor([[True, True, False]])
    found = early_exit_mse(states, final, weights, is_counted)
    assert found.item() == pytest.approx((2 / 3 * 0.5 + 1 * 8.0) / 2)
    torch.autograd.backward(found)
    assert final.grad is None
    assert states.grad is not None
    assert states.grad[0, 0, 1].tolist() == [0.0, 0.0], "a critical step's first layer is free"


def test_layers_run_where_nothing_is_critical() -> None:
    gates = torch.tensor([[[0.0, 0.5, 0.25, 0.0]], [[1.0, 0.5, 0.25, 0.0]]], requires_grad=True)
    criticality = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
    is_counted = torch.tensor([[True, True, True, False]])
    found = layers_run(gates, criticality, is_counted)
    assert found.item() == pytest.approx((1.0 + 0.0 + 2 * 0.5 * 0.5) / 6)
    torch.autograd.backward(found)
    assert gates.grad is not None
    assert (gates.grad[:, 0, :2] < 0).all(), "to skip more lowers it"
    assert gates.grad[:, 0, 2:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


@torch.no_grad()
def test_the_terms_add_up() -> None:
    student, teacher, lesson = new_student(), new_student(), lesson_of(3)
    teacher.model.load_state_dict(new_model(seed=5).state_dict())
    first = latent_losses(student, teacher, lesson, alpha=0.5)
    close(first["loss"], first["answer_nll"] + 0.5 * first["state_mse"])
    second = shortcut_losses(student, lesson, beta=0.25, gamma=2.0)
    kept = 2.0 * second["run"]
    close(second["loss"], second["exit_mse"] + 0.25 * second["mixed_nll"] + kept)
    assert 0 < second["gate"] < 1
    both = joint_losses(student, teacher, lesson, alpha=0.5, beta=0.25, gamma=2.0)
    close(both["loss"], first["loss"] + second["loss"])
    words = latent_losses(student, teacher, lesson_of(0), alpha=0.5)
    assert words.keys() == {"loss", "explicit_nll"}


@torch.no_grad()
def test_states_are_compared_where_both_give_the_answer() -> None:
    """A teacher that reads what the student reads leaves no difference."""
    student, lesson = new_student(), lesson_of(2)
    hidden = student(lesson.batch).hidden
    taught = student(lesson.explicit).hidden[lesson.explicit.is_answer]
    expected = (hidden[lesson.batch.is_answer] - taught).square().mean()
    found = latent_losses(student, student, lesson, 1.0)["state_mse"]
    close(found, expected)
    assert found > 1e-3
    same = Lesson(lesson.batch, lesson.latent)
    assert latent_losses(student, student, same, 1.0)["state_mse"] == 0.0


@torch.no_grad()
def test_exits_are_compared_with_the_plain_student() -> None:
    """Term by term for one row: latents and text, by each one's criticality."""
    student, lesson = new_student(), lesson_of(2, 30)
    batch = lesson.batch
    mixed, plain = student(batch, Gate()), student(batch)
    total, count = torch.zeros(()), 0
    for segment, target in zip(
        [*mixed.latents, mixed.text], [*plain.latents, plain.text], strict=True
    ):
        for position in range(segment.states[0].shape[1]):
            weights = exit_weights(batch.criticality[0, count], 3)
            final = student.normed(target.states[-1][0, position])
            for weight, state in zip(weights, segment.states[1:], strict=True):
                total = (
                    total + weight * (student.normed(state[0, position]) - final).square().mean()
                )
            count += 1
    close(shortcut_losses(student, lesson, 1.0)["exit_mse"], total / count)


Objective = Callable[[Student, Student, Lesson], Losses]
OBJECTIVES: dict[str, Objective] = {
    "latent": lambda student, teacher, lesson: latent_losses(student, teacher, lesson, 1.0),
    "shortcut": lambda student, _, lesson: shortcut_losses(student, lesson, 1.0),
    "joint": lambda student, teacher, lesson: joint_losses(student, teacher, lesson, 1.0, 1.0),
}


@pytest.mark.parametrize("num_latents", [0, 3])
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_step_lowers_the_loss_on_its_batch(objective: Objective, num_latents: int) -> None:
    student, teacher, lesson = new_student(), new_student(), lesson_of(num_latents)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    before = objective(student, teacher, lesson)["loss"]
    torch.autograd.backward(before)
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    assert objective(student, teacher, lesson)["loss"] < before - 1e-5
    assert all(p.grad is None for p in teacher.parameters())


def test_a_decoder_adds_the_chains_steps_read_from_the_latents() -> None:
    student, teacher, lesson = new_student(), new_student(), lesson_of(3)
    plain = latent_losses(student, teacher, lesson, 1.0)
    student.decoder = StepDecoder(new_model(7))
    texts = step_texts(examples(0, 30, 90), 3, tokenizer().pad_token_id)
    found = latent_losses(student, teacher, replace(lesson, steps=texts), 1.0)
    assert lesson.latent is not None
    z = student(lesson.latent).thoughts()
    logs = student.decoder(z[texts.rows, texts.latents], texts.ids).log_softmax(-1)
    each = [
        -logs[row, place, token]
        for row, ids in enumerate(texts.labels.tolist())
        for place, token in enumerate(ids)
        if token != IGNORED
    ]
    close(found["step_nll"], torch.stack(each).mean())
    close(found["loss"], plain["loss"] + found["step_nll"])
