"""Latent methods: what each latent stands for, their losses by hand, their loops, a run of each."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import pytest
import torch
from shortcut_scenes import examples, new_model, save_teacher, tokenizer

from sottovoce_training.latent import train
from sottovoce_training.latent.data import STRIDE, Lessons, atp, coconut, codi, stage_at
from sottovoce_training.latent.generate import Answerer
from sottovoce_training.latent.heads import Atp, Thought
from sottovoce_training.latent.losses import (
    atp_losses,
    before_answer,
    coconut_losses,
    codi_losses,
    distance,
    kl,
    stop_loss,
)  # fmt: skip
from sottovoce_training.latent.thinker import Thinker
from sottovoce_training.reasoner.data import IGNORED
from sottovoce_training.reasoner.tokenizer import prompt_of
from sottovoce_training.shortcuts.losses import Losses
from sottovoce_training.steps import StepDecoder, covered, latent_of

GROUP = (0, 30, 70, 90)


def pad() -> int:
    found: int = tokenizer().pad_token_id
    return found


def thinker_of(method: str) -> Thinker:
    torch.manual_seed(3)
    thinker = Thinker(new_model(), method)
    for parameter in thinker.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return thinker


@pytest.mark.parametrize(
    ("num_steps", "num_latents", "found"),
    [(4, 2, [0, 0, 1, 1]), (3, 6, [0, 1, 2]), (5, 3, [0, 0, 1, 2, 2]), (1, 1, [0])],
)
def test_a_chain_is_laid_out_over_the_latents(
    num_steps: int, num_latents: int, found: list[int]
) -> None:
    assert [latent_of(i, num_steps, num_latents) for i in range(num_steps)] == found


@pytest.mark.parametrize("num_latents", [1, 3, 8])
def test_the_latents_cover_the_thought_in_order(num_latents: int) -> None:
    for example in examples(*GROUP):
        assert list(itertools.chain(*covered(example, num_latents))) == example.thought


def test_distance_by_hand() -> None:
    theirs = torch.tensor([[[0.0, 2.0], [4.0, 6.0]], [[0.0, 20.0], [40.0, 60.0]]])
    theirs.requires_grad_()
    ours = theirs.detach() + 1.0
    scale = torch.tensor([0.0, 2.0, 4.0, 6.0]).std()
    found = distance(ours, theirs)
    torch.testing.assert_close(found, (1 / scale + 1 / (10 * scale)) / 2)
    assert not found.requires_grad


def test_kl_by_hand() -> None:
    mean, std, scale = 0.3, 0.2, 0.5
    thought = Thought(
        torch.zeros(1, 2, 1), torch.full((1, 2, 1), mean), torch.full((1, 2, 1), std).log()
    )
    normals = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, scale)
    want = torch.distributions.kl_divergence(*normals)
    is_real = torch.tensor([[True, False]])
    torch.testing.assert_close(kl(thought, scale, is_real), want)


def test_the_stop_head_is_asked_after_every_pair_and_true_at_the_last() -> None:
    head = Atp(4, 1.0)
    after, is_real = torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool)
    is_real[0, 2:] = False
    p = head.stop(after).sigmoid().squeeze(-1)
    terms = [p[0, 1], 1 - p[1, 1], 1 - p[1, 3], p[1, 5]]
    torch.testing.assert_close(stop_loss(head, after, is_real), -torch.stack(terms).log().mean())


def test_states_before_the_answer_are_the_same_token_in_both_forms() -> None:
    lesson, thinker = codi(3)(examples(*GROUP), 0.0, pad()), thinker_of("codi")
    assert lesson.explicit is not None
    for batch in (lesson.latent, lesson.explicit):
        for row, example in enumerate(examples(*GROUP)):
            where = batch.is_answer[row].int().argmax()
            assert batch.text_ids[row, where - 1 : where + 1].tolist() == example.answer[:2]
        found = thinker(batch)
        states, first = before_answer(found, batch), batch.is_answer.int().argmax(1) + 1
        assert states.shape == (3, len(GROUP), 32)
        predicting = found.hidden[torch.arange(len(GROUP)), first]
        torch.testing.assert_close(thinker.normed(states[-1]), predicting)


def test_the_decoder_reads_each_latent_alone() -> None:
    """A latent's text depends on its own z, and a token on those before it only."""
    lesson = codi(3)(examples(*GROUP), 0.0, pad())
    assert lesson.steps is not None
    decoder, ids = StepDecoder(new_model()), lesson.steps.ids
    z = torch.randn(len(ids), 32)
    base, other, later = decoder(z, ids), z.clone(), ids.clone()
    other[0] += 1
    changed = (decoder(other, ids) - base).abs().amax((1, 2)) > 1e-6
    assert changed.tolist() == [True] + [False] * (len(ids) - 1)
    later[:, 2] = 5
    moved = (decoder(z, later) - base).abs().amax((0, 2)) > 1e-6
    assert not moved[:3].any()
    assert moved[3]


def test_the_curriculum_goes_from_words_to_latents() -> None:
    assert [stage_at(p / 10, 3) for p in range(11)] == [0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3]
    make, group = coconut(3), examples(*GROUP)
    words, some, none = (make(group, progress, pad()).latent for progress in (0.0, 0.4, 1.0))
    assert [b.num_latents for b in (words, some, none)] == [0, 2, 3]
    for row, example in enumerate(group):
        texts = [b.text_ids[row][b.is_text[row]].tolist() for b in (words, some, none)]
        assert texts[0] == example.thought + example.answer
        assert texts[1] == covered(example, 3)[2] + example.answer
        assert texts[2] == example.answer
        assert none.labels[row, 0] == IGNORED


def test_rows_of_fewer_latents_are_as_if_alone() -> None:
    """ATP-Latent's rows differ in length: those that wait change nothing for themselves."""
    thinker, make = thinker_of("atp"), atp()
    thinker.head.forward = lambda hidden: Thought(hidden * 0.5)  # type: ignore[method-assign]
    group = examples(*GROUP)
    whole = make(group, 0.0, pad())
    assert whole.is_real is not None
    assert len(set(whole.is_real.sum(1).tolist())) > 1
    found = thinker(whole.latent, whole.is_real)
    for row, example in enumerate(group):
        one = make([example], 0.0, pad())
        alone = thinker(one.latent, one.is_real)
        size = len(example.answer)
        torch.testing.assert_close(found.hidden[row, 1:size], alone.hidden[0, 1:size])


def losses_of(method: str, thinker: Thinker, decoder: StepDecoder) -> Losses:
    group = examples(*GROUP)
    if method == "coconut":
        return coconut_losses(thinker, coconut(3)(group, 0.4, pad()))
    if method == "atp":
        return atp_losses(thinker, atp()(group, 0.0, pad()), decoder)
    lesson = codi(3)(group, 0.0, pad())
    return codi_losses(thinker, lesson, decoder if method == "sim-cot" else None)


@pytest.mark.parametrize("method", ["codi", "sim-cot", "coconut", "atp"])
def test_a_step_lowers_the_loss_through_the_latents(method: str) -> None:
    thinker, decoder = thinker_of(method), StepDecoder(new_model())
    torch.manual_seed(0)
    found = losses_of(method, thinker, decoder)
    torch.testing.assert_close(found["loss"], sum(v for k, v in found.items() if k != "loss"))
    torch.autograd.backward(found["loss"])
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in thinker.head.parameters())
    assert (next(decoder.parameters()).grad is not None) == (method in ("sim-cot", "atp"))
    torch.nn.utils.clip_grad_norm_(thinker.parameters(), 1.0)
    torch.optim.SGD(thinker.parameters(), lr=1e-3).step()
    torch.manual_seed(0)
    assert losses_of(method, thinker, decoder)["loss"] < found["loss"] - 1e-5


@torch.no_grad()
@pytest.mark.parametrize("method", ["codi", "coconut"])
def test_answers_are_those_of_one_prompt_alone(method: str) -> None:
    thinker = thinker_of(method)
    prompts = [prompt_of(f"What is {i} + {'1' * i}?") for i in range(1, 4)]
    together = Answerer(thinker, tokenizer(), 3)(prompts)
    assert [row[:3] for row in together] == [[pad()] * 3] * 3
    for prompt, row in zip(prompts, together, strict=True):
        (alone,) = Answerer(thinker, tokenizer(), 3)([prompt])
        assert row[: len(alone)] == alone
        assert set(row[len(alone) :]) <= {pad()}


@torch.no_grad()
def test_the_stop_head_ends_thinking() -> None:
    thinker, prompts = thinker_of("atp"), [prompt_of("What is 1 + 1?")]
    assert isinstance(thinker.head, Atp)
    counts = []
    for bias in (100.0, -100.0):
        torch.nn.init.constant_(thinker.head.stop.bias, bias)
        (row,) = Answerer(thinker, tokenizer(), 20)(prompts)
        counts.append(row.index(tokenizer().convert_tokens_to_ids("</think>")))
    assert counts == [STRIDE, 20]


def test_seeds_see_other_problems_and_a_seed_its_own_again() -> None:
    def first(seed: int) -> list[int]:
        stream = Lessons(tokenizer(), set(), codi(2), 4, 100, seed)
        found: list[int] = stream.pool(8)[0].latent.prompt_ids.flatten().tolist()
        return found

    assert first(0) == first(0) != first(1)


@pytest.mark.parametrize("method", train.METHODS)
def test_a_run_logs_and_resumes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "VALIDATION_PER_FAMILY", 1)
    monkeypatch.setattr(train, "HELD_OUT_PER_FAMILY", 1)
    monkeypatch.setattr(Lessons, "pool", functools.partialmethod(Lessons.pool, 16))
    teacher = save_teacher(tmp_path / "teacher")

    def run(num_steps: int) -> train.Run:
        settings = train.Settings(
            num_steps, 5e-4, eval_every=2, method=method, num_latents=2, batch_size=4
        )
        return train.Run(tmp_path / "run", settings, 0, teacher)

    first = run(3)
    first.train()
    again = run(3)
    assert again.step == 3
    for name, weight in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name
    with pytest.raises(ValueError, match=r"has \{'num_steps': 3\}; give them, or another --out"):
        run(4)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    evaluated = [row for row in log if "accuracy" in row]
    assert [row["step"] for row in evaluated] == [2, 3], "every other step, and the last"
    assert all(row["latents"] >= 2 for row in evaluated)
    assert all(0 <= row["diversity"] <= 2 for row in evaluated)
