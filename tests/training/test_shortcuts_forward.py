"""The batched pass, and the reference of the inference rule: they agree, and so they do with Llama."""

from __future__ import annotations

import pytest
import torch
from shortcut_scenes import VARIANTS, examples, new_student, row_of, tokenizer

from sottovoce_training.llama import causal_mask
from sottovoce_training.shortcuts.data import Batch, explicit_batch, latent_batch
from sottovoce_training.shortcuts.modules import Gate, Variant
from sottovoce_training.shortcuts.reference import Position, Reference
from sottovoce_training.shortcuts.student import Student

GROUP = (0, 30, 90)  # prompts and texts of different lengths
DEPTH = 0.6


def batch_of(num_latents: int, *indices: int) -> Batch:
    pad, group = tokenizer().pad_token_id, examples(*(indices or GROUP))
    return latent_batch(group, num_latents, pad) if num_latents else explicit_batch(group, pad)


def referred(
    student: Student, batch: Batch, row: int, depth: float | None
) -> tuple[Reference, list[Position]]:
    """One row through the reference: all positions from the prompt's last."""
    reference = Reference(student.model, student.shortcuts, depth)
    prompt, text = row_of(batch, row)
    found = [reference.prompt(prompt), *reference.think(batch.num_latents), *reference.text(text)]
    return reference, found


@torch.no_grad()
def test_without_shortcuts_it_is_transformers_own_model() -> None:
    student, batch = new_student(), batch_of(0, 0)
    prompt, text = row_of(batch, 0)
    theirs = student.model(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    ours = student.logits(student(batch).hidden)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    _, positions = referred(student, batch, 0, None)
    referees = torch.stack([position.logits for position in positions[:-1]])
    torch.testing.assert_close(referees, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_latents", [0, 1, 3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@torch.no_grad()
def test_hard_gates_agree_with_the_reference(variant: Variant, num_latents: int) -> None:
    """Every layer's state, every decision and the logits, in a padded batch of three."""
    student, batch = new_student(variant), batch_of(num_latents)
    found = student(batch, Gate(DEPTH))
    logits, states = student.logits(found.hidden), found.states()
    segments = [*found.latents, found.text]
    decisions = set()
    for row in range(len(GROUP)):
        _, positions = referred(student, batch, row, DEPTH)
        after = positions[1:]
        for index, position in enumerate(after):
            expected = torch.stack(position.states[1:])
            torch.testing.assert_close(states[:, row, index], expected, atol=1e-5, rtol=1e-5)
            segment = segments[min(index, num_latents)]
            taken = [bool(gate[row, max(0, index - num_latents)]) for gate in segment.gates]
            assert taken == position.is_skipped[: len(taken)]
            decisions |= set(position.is_skipped)
        start = num_latents
        expected = torch.stack([position.logits for position in positions[start:-1]])
        ours = logits[row, : len(expected)]
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    can_skip = variant.depth or num_latents > 1
    assert decisions == ({True, False} if can_skip else {False}), "the scene decides one way only"


@pytest.mark.parametrize("num_latents", [0, 3])
@torch.no_grad()
def test_depth_1_is_the_plain_student(num_latents: int) -> None:
    student, batch = new_student(), batch_of(num_latents)
    plain, deep = student(batch), student(batch, Gate(1.0))
    assert torch.equal(plain.hidden, deep.hidden)
    for depth in (None, 1.0):
        reference, positions = referred(student, batch, 1, depth)
        logits = student.logits(plain.hidden)[1, : len(positions) - 1 - num_latents]
        expected = torch.stack([position.logits for position in positions[num_latents:-1]])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        assert not any(any(position.is_skipped) for position in reference.positions)


@torch.no_grad()
def test_soft_gates_mix_by_w() -> None:
    """h_l = w (x + g_{l-1}(x) + g_l(before)) + (1 - w) f_l(x), at the second latent step."""
    student, batch = new_student(), batch_of(2, 0)
    first, second = student(batch, Gate()).latents
    added, keys = student.shortcuts, first.keys
    mask = causal_mask(torch.ones(1, keys[0].shape[2] + 1, dtype=torch.bool), 1)
    x, positions = second.states[0], torch.tensor([[keys[0].shape[2]]])
    full = student.segment(x, (first.keys, first.values), positions, mask).states[1]
    short = x + added.adapters[0](x) + added.adapters[1](first.states[1])
    w = added.routers[0](x).unsqueeze(-1)
    assert 0.01 < w.item() < 0.99
    torch.testing.assert_close(second.states[1], w * short + (1 - w) * full)


@torch.no_grad()
def test_latent_inputs_are_the_feedback_of_where_the_step_before_halted() -> None:
    student, batch = new_student(), batch_of(2, 0)
    first, second = student(batch, Gate(DEPTH)).latents
    halted = student.normed(first.states[-1])
    torch.testing.assert_close(second.states[0], student.shortcuts.feedback(halted))


@torch.no_grad()
def test_skipped_layers_write_keys_and_values() -> None:
    """Of their own input, by their own norm and projections, turned by their own position."""
    student, batch, row = new_student(), batch_of(2), 1
    reference, positions = referred(student, batch, row, -1.0)  # every w is above
    assert all(all(position.is_skipped) for position in positions[1:])
    assert not any(positions[0].is_skipped), "the prompt is read in full"
    segment = student(batch, Gate(-1.0)).text
    latents = torch.ones(2, dtype=torch.bool)
    is_token = torch.cat([batch.is_prompt[row], latents, batch.is_text[row]])
    assert not is_token[0], "the row is not padded"
    for index, layer in enumerate(student.model.model.layers):
        assert len(reference.keys[index]) == len(reference.positions)
        keys = torch.stack(reference.keys[index], dim=1)
        found = segment.keys[index][row][:, is_token]
        torch.testing.assert_close(found, keys, atol=1e-5, rtol=1e-5)
        x = reference.positions[-1].states[index]
        value = layer.self_attn.v_proj(layer.input_layernorm(x)).view(2, -1)
        torch.testing.assert_close(reference.values[index][-1], value)
        found = segment.values[index][row][:, is_token]
        torch.testing.assert_close(found[:, -1], value, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cache_of_a_skipped_position_is_read_later() -> None:
    student = new_student()
    batch = batch_of(0, 0)
    reference, _ = referred(student, batch, 0, -1.0)
    reference.depth = None
    token = batch.text_ids[0, 0].item()
    before = reference.text([int(token)])[0].logits
    for layer in range(3):
        reference.keys[layer].pop()
        reference.values[layer].pop()
        reference.values[layer][-1] = reference.values[layer][-1] + 1.0
    reference.positions.pop()
    assert (reference.text([int(token)])[0].logits - before).abs().max() > 1e-3


def test_padding_attends_to_itself_only() -> None:
    is_token = torch.tensor([[False, True, True], [True, True, False]])
    found = causal_mask(is_token, 3)[:, 0].int().tolist()
    assert found == [
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
    ]
    assert torch.equal(causal_mask(is_token, 1), causal_mask(is_token, 3)[:, :, -1:])
