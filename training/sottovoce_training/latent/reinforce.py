"""ATP-Latent's fine-tuning: latents are actions, rewarded for right answers and coherent steps.

The method's reward is the coherence of what its VAE decodes from the latents (arXiv 2601.21598);
that the chain's likelihood under the reasoner is the measure of it, the weights and the plain
policy gradient with a group's mean as its baseline are our choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F

from ..example import padded
from ..llama import Reader
from ..reasoner.data import IGNORED
from ..shortcuts.data import Batch
from ..shortcuts.losses import Losses
from ..steps import StepDecoder
from .data import MAX_LATENTS, STRIDE
from .heads import Atp
from .thinker import Thinker

GROUP = 4  # attempts at a problem
COHERENCE_WEIGHT = 0.5  # a right answer counts 1


@dataclass(frozen=True)
class Attempt:
    """N rows of latents as they were drawn."""

    z: torch.Tensor  # [N, K, H]
    is_real: torch.Tensor  # bool [N, K]


def repeated(batch: Batch, times: int) -> Batch:
    """Every problem `times` times, one after the other."""
    values: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch)}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            values[name] = value.repeat_interleave(times, dim=0)
    return Batch(**values)


@torch.no_grad()
def attempt(thinker: Thinker, batch: Batch) -> Attempt:
    """Draw latents, and after every STRIDE of them whether they end."""
    tape = thinker.prompt(batch.prompt_ids, batch.is_prompt)

    def is_over(logits: torch.Tensor) -> torch.Tensor:
        return torch.rand_like(logits) < logits.sigmoid()

    return Attempt(*thinker.draw(tape, MAX_LATENTS, is_over))


def judged(thinker: Thinker, batch: Batch, found: Attempt) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each attempt, a latent's mean, and whether it answers right, [N].

    All latents are read at once, for they are known. An answer is right if it is the solver's.
    """
    head = thinker.head
    assert isinstance(head, Atp)
    tape = thinker.prompt(batch.prompt_ids, batch.is_prompt)
    first = tape.last
    after = thinker.normed(tape.extend(found.z, found.is_real).states[-1])
    text = tape.extend(thinker.embed(batch.text_ids), batch.is_text)
    thought = head(torch.cat([first, after[:, :-1]], dim=1))
    assert thought.mean is not None
    assert thought.log_std is not None
    each = _log_density(found.z, thought.mean, thought.log_std).mean(-1)
    each = each.masked_fill(~found.is_real, 0.0)
    drawn = each.sum(1) + _stops(head, after, found.is_real).sum(1)
    labels = batch.labels[:, 1:]
    choice = thinker.logits(thinker.normed(text.states[-1][:, :-1])).argmax(-1)
    is_right = ((choice == labels) | (labels == IGNORED)).all(1)
    return drawn / found.is_real.sum(1), is_right


def _log_density(z: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    return -0.5 * ((z - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)


def _stops(head: Atp, after: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
    """The log-probability of every decision to stop or go on, [N, K / STRIDE].

    At the most latents that there may be nothing is decided.
    """
    asked = is_real[:, STRIDE - 1 :: STRIDE].clone()
    asked[:, MAX_LATENTS // STRIDE - 1 :] = False
    stopped = ~F.pad(is_real, (0, 1))[:, STRIDE::STRIDE]
    logits = head.stop(after[:, STRIDE - 1 :: STRIDE]).squeeze(-1)
    return F.logsigmoid(torch.where(stopped, logits, -logits)).masked_fill(~asked, 0.0)


@torch.no_grad()
def coherence(
    reasoner: Reader, decoder: StepDecoder, batch: Batch, found: Attempt, end: int
) -> torch.Tensor:
    """[N]: the mean probability, geometric, that the reasoner gives the chain the latents decode to."""
    rows, latents = found.is_real[:, STRIDE - 1 :: STRIDE].nonzero(as_tuple=True)
    texts = decoder.write(found.z[rows, STRIDE * latents + STRIDE - 1], end)
    chains: list[list[int]] = [[] for _ in range(len(found.z))]
    for row, text in zip(rows.tolist(), texts, strict=True):
        chains[row] += text
    labels = padded(chains, IGNORED) if any(chains) else torch.full((len(chains), 1), IGNORED)
    tape = reasoner.prompt(batch.prompt_ids, batch.is_prompt)
    last, is_text = tape.last, labels != IGNORED
    ends = reasoner.normed(tape.extend(reasoner.embed(labels.clamp_min(0)), is_text).states[-1])
    logits = reasoner.logits(torch.cat([last, ends[:, :-1]], dim=1))
    nll = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return (-nll.sum(1) / is_text.sum(1).clamp_min(1)).exp() * is_text.any(1)


def reinforced_losses(
    thinker: Thinker, decoder: StepDecoder, reasoner: Reader, batch: Batch, end: int
) -> Losses:
    """The policy gradient of GROUP attempts at each problem, against their mean reward."""
    asked = repeated(batch, GROUP)
    found = attempt(thinker, asked)
    log_probability, is_right = judged(thinker, asked, found)
    coherent = coherence(reasoner, decoder, asked, found, end)
    reward = (is_right.float() + COHERENCE_WEIGHT * coherent).view(-1, GROUP)
    spread = reward.std(dim=1, keepdim=True).clamp_min(1e-3)
    advantage = ((reward - reward.mean(dim=1, keepdim=True)) / spread).flatten()
    return {
        "loss": -(advantage * log_probability).mean(), "reward": reward.mean(),
        "right": is_right.float().mean(), "coherence": coherent.mean(),
        "latents": found.is_real.sum(1).float().mean(),
    }  # fmt: skip
