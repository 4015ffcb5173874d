"""Requests for latent steps, and their generations held to the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from e2e.engine import Choice, Prompt
from e2e.latent_models import MAX_STEPS, Latent
from e2e.shortcut_runs import PLACEHOLDER, TOLERANCE
from e2e.steps import routes_of


@dataclass(frozen=True)
class Asked:
    """A greedy request in mode latent."""

    prompt: tuple[int, ...]
    steps: int | None = None  # None: as many as the model says
    seed: int = 0
    num_tokens: int = 20
    more: dict[str, Any] = field(default_factory=dict)

    def as_prompt(self, arrives: int = 0) -> Prompt:
        """The request as the engine takes it, with every log-probability."""
        extra = {} if self.steps is None else {"latent": {"steps": self.steps}}
        sampling = {
            "temperature": 0.0, "max_tokens": self.num_tokens, "ignore_eos": True, "logprobs": -1,
            "seed": self.seed, "extra_args": {"reasoning_mode": "latent", **extra, **self.more},
        }  # fmt: skip
        return Prompt(self.prompt, sampling, arrives)

    def most(self, model: Latent) -> int:
        """Steps that it may take."""
        default = MAX_STEPS if model.method == "atp" else 4
        return default if self.steps is None else self.steps


def follow(
    model: Latent, asked: Asked, choice: Choice, is_greedy: bool = True, seed: int | None = None
) -> int:
    """Fail unless every token is what the reference makes of what came before; returns its steps."""
    tokens = choice.token_ids
    seed = asked.seed if seed is None else seed
    want = model.think(asked.prompt, tokens, asked.most(model), seed)
    taken = want.num_latents
    assert want.margin > 1e-3, "the stop head is at a tie; take another prompt"
    assert tokens[:taken] == (PLACEHOLDER,) * taken
    assert tokens[taken] == model.end
    assert len(tokens) == asked.num_tokens == len(want.logits)
    assert routes_of(choice.steps)[: taken + 1].count("latent") == taken
    for index, (logits, had) in enumerate(zip(want.logits, choice.logprobs, strict=True)):
        values = torch.tensor([had[i] for i in range(len(logits))])
        assert (values - logits.log_softmax(0)).abs().max() < TOLERANCE, f"step {index}"
        if index > taken and is_greedy:
            assert logits.max() - logits[tokens[index]] < TOLERANCE, f"step {index}"
    return taken
