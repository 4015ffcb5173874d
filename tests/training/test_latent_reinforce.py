"""ATP-Latent's policy gradient: likelihoods and rewards by hand, and what a step of it does."""

from __future__ import annotations

import pytest
import torch
from shortcut_scenes import examples, new_model, tokenizer

from sottovoce_training.latent import reinforce
from sottovoce_training.latent.data import MAX_LATENTS, STRIDE, atp
from sottovoce_training.latent.heads import Atp
from sottovoce_training.latent.reinforce import Attempt, attempt, coherence, judged, repeated
from sottovoce_training.latent.thinker import Thinker
from sottovoce_training.llama import Reader
from sottovoce_training.reasoner.data import IGNORED
from sottovoce_training.shortcuts.data import Batch
from sottovoce_training.steps import StepDecoder

GROUP = (0, 30, 70)


def scene() -> tuple[Thinker, Atp, Batch]:
    torch.manual_seed(3)
    thinker = Thinker(new_model(), "atp")
    for parameter in thinker.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert isinstance(thinker.head, Atp)
    return thinker, thinker.head, atp()(examples(*GROUP), 0.0, tokenizer().pad_token_id).latent


def end() -> int:
    found: int = tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert found == examples(0)[0].answer[-1]
    return found


def test_problems_are_repeated_one_after_the_other() -> None:
    batch = scene()[2]
    found = repeated(batch, 2)
    assert found.prompt_ids.tolist() == [row for row in batch.prompt_ids.tolist() for _ in range(2)]
    assert len(found.is_answer) == len(found.labels) == 6
    assert found.num_latents == batch.num_latents


@torch.no_grad()
def test_attempts_end_in_pairs_as_the_stop_head_says() -> None:
    thinker, head, batch = scene()
    for bias, count in ((100.0, STRIDE), (-100.0, MAX_LATENTS)):
        torch.nn.init.constant_(head.stop.bias, bias)
        assert attempt(thinker, batch).is_real.sum(1).tolist() == [count] * len(GROUP)
    torch.nn.init.constant_(head.stop.bias, 0.0)
    counts = torch.cat([attempt(thinker, batch).is_real.sum(1) for _ in range(20)])
    assert (counts % STRIDE == 0).all()
    assert len(set(counts.tolist())) > 2


@torch.no_grad()
def test_likelihoods_step_by_step() -> None:
    """What reads all latents at once agrees with one row that reads them one after the other."""
    thinker, head, batch = scene()
    z = 0.3 * torch.randn(3, MAX_LATENTS, 32)
    lengths = [2, 6, MAX_LATENTS]
    is_real = torch.arange(MAX_LATENTS) < torch.tensor(lengths)[:, None]
    found, _ = judged(thinker, batch, Attempt(z, is_real))
    for row, length in enumerate(lengths):
        tape = thinker.prompt(
            batch.prompt_ids[row : row + 1, batch.is_prompt[row]],
            torch.ones(1, int(batch.is_prompt[row].sum()), dtype=torch.bool),
        )
        total = 0.0
        for k in range(length):
            _, mean, log_std = head(tape.last)
            assert mean is not None
            assert log_std is not None
            each = -0.5 * ((z[row, k] - mean) / log_std.exp()) ** 2 - log_std - 0.918938533
            total += each.mean().item()
            tape.extend(z[row : row + 1, k : k + 1], torch.ones(1, 1, dtype=torch.bool))
            if k % STRIDE == STRIDE - 1 and k < MAX_LATENTS - 1:
                stop = head.stop(tape.last).sigmoid().item()
                total += torch.tensor(stop if k == length - 1 else 1 - stop).log().item()
        assert found[row].item() == pytest.approx(total / length, abs=1e-4)


@torch.no_grad()
def test_an_answer_is_right_if_greedy_decoding_gives_it() -> None:
    thinker, _, batch = scene()
    found = attempt(thinker, batch)
    tape = thinker.prompt(batch.prompt_ids, batch.is_prompt)
    tape.extend(found.z, found.is_real)
    token, written = batch.text_ids[:, :1], [batch.text_ids[:, :1]]
    for _ in range(3):
        tape.extend(thinker.embed(token), torch.ones_like(token, dtype=torch.bool))
        token = thinker.logits(tape.last).argmax(-1)
        written.append(token)
    text = torch.cat(written, dim=1)
    labels = torch.cat([torch.full((3, 1), IGNORED), text[:, 1:]], dim=1)
    labels[1, 3] = (labels[1, 3] + 1) % 50
    told = Batch(
        batch.prompt_ids, batch.is_prompt, batch.num_latents, text, torch.ones_like(text).bool(),
        labels, torch.ones_like(text).bool(), batch.criticality,
    )  # fmt: skip
    assert judged(thinker, told, found)[1].tolist() == [True, False, True]


@torch.no_grad()
def test_coherence_is_the_chains_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = scene()[2]
    model, chains = new_model(5), [[7, 8], [9], [], [11, 12, 13]]
    monkeypatch.setattr(StepDecoder, "write", lambda *_: chains)
    is_real = torch.tensor([[True] * 4, [True, True, False, False], [True, True, False, False]])
    found = coherence(
        Reader(model), StepDecoder(new_model()), batch, Attempt(torch.zeros(3, 4, 32), is_real),
        end(),
    )  # fmt: skip
    for row, chain in enumerate(([7, 8, 9], [], [11, 12, 13])):
        prompt = batch.prompt_ids[row][batch.is_prompt[row]].tolist()
        logs = model(torch.tensor([prompt + chain])).logits[0].log_softmax(-1)
        each = [logs[len(prompt) - 1 + i, token] for i, token in enumerate(chain)]
        want = torch.stack(each).mean().exp().item() if each else 0.0
        assert found[row].item() == pytest.approx(want, rel=1e-4)


def test_a_decoder_writes_each_latent_greedily_to_its_end() -> None:
    decoder, z = StepDecoder(new_model()), torch.randn(3, 32)
    texts = decoder.write(z, end(), 6)
    for row, text in enumerate(texts):
        ids = torch.tensor([[*text, end()]])
        choice = decoder(z[row : row + 1], ids).argmax(-1)[0].tolist()
        assert choice[: len(text)] == text
        assert len(text) == 6 or choice[len(text)] == end()


def test_a_step_makes_better_attempts_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    thinker, _, batch = scene()
    asked = repeated(batch, reinforce.GROUP)
    torch.manual_seed(0)
    found = attempt(thinker, asked)
    reward = torch.rand(len(found.z))
    monkeypatch.setattr(reinforce, "attempt", lambda *_: found)
    monkeypatch.setattr(reinforce, "coherence", lambda *_: reward)
    before = judged(thinker, asked, found)[0].detach()
    losses = reinforce.reinforced_losses(
        thinker, StepDecoder(new_model()), Reader(new_model()), batch, end()
    )
    assert losses["coherence"] == reward.mean()
    torch.autograd.backward(losses["loss"])
    torch.nn.utils.clip_grad_norm_(thinker.parameters(), 1.0)
    torch.optim.SGD(thinker.parameters(), lr=1e-2).step()
    change = judged(thinker, asked, found)[0].detach() - before
    better = reward > reward.view(-1, reinforce.GROUP).mean(1).repeat_interleave(reinforce.GROUP)
    assert change[better].mean() > change[~better].mean()
