"""Requests with shortcuts, and their generations held to the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from e2e.engine import Choice, Prompt
from e2e.shortcut_models import Shortcut
from sottovoce_training.shortcuts.reference import Position

TOLERANCE = 1e-4  # of a log-probability, in float32 over a whole generation
PLACEHOLDER = 1  # the first special token of the tiny models that neither stops nor marks thinking


@dataclass(frozen=True)
class Asked:
    """A greedy request with shortcuts."""

    prompt: tuple[int, ...]
    steps: int
    depth: float | None
    num_tokens: int = 24
    more: dict[str, Any] = field(default_factory=dict)

    def as_prompt(self, arrives: int = 0) -> Prompt:
        """The request as the engine takes it, with every log-probability."""
        extra = {"shortcuts": {"depth": self.depth, "steps": self.steps}}
        sampling = {
            "temperature": 0.0, "max_tokens": self.num_tokens, "ignore_eos": True, "logprobs": -1,
            "extra_args": extra | self.more,
        }  # fmt: skip
        return Prompt(self.prompt, sampling, arrives)


def _positions(model: Shortcut, asked: Asked, tokens: tuple[int, ...]) -> list[Position]:
    """What the reference has read when each token was chosen."""
    reference = model.reference(asked.depth)
    last = reference.prompt(asked.prompt)
    latents = reference.think(asked.steps)
    return [last, *latents, *reference.text(tokens[asked.steps : -1])]


def _hold_choice(position: Position, token: int) -> None:
    logits = position.logits
    assert logits.max() - logits[token] < TOLERANCE, "not the best token, nor tied with it"


def follow(model: Shortcut, asked: Asked, choice: Choice, is_greedy: bool = True) -> list[Position]:
    """Fail unless every step is what the reference makes of the steps before it."""
    tokens, steps = choice.token_ids, asked.steps
    assert len(tokens) == asked.num_tokens
    assert tokens[:steps] == (PLACEHOLDER,) * steps
    found = _positions(model, asked, tokens)
    for index, (position, had) in enumerate(zip(found, choice.logprobs, strict=True)):
        want = position.logits.log_softmax(0)
        values = torch.tensor([had[i] for i in range(len(want))])
        assert (values - want).abs().max() < TOLERANCE, f"step {index}"
        assert choice.steps[index].num_skipped == sum(position.is_skipped), f"step {index}"
        if index == steps > 0:
            assert tokens[index] == model.end
        elif index >= steps and is_greedy:
            _hold_choice(position, tokens[index])
    return found


def skips(positions: list[Position]) -> set[bool]:
    """Whether layers were skipped, run, or both."""
    return {skipped for position in positions for skipped in position.is_skipped}
