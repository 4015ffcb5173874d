"""Greedy answers after latent steps, for validation; ATP-Latent's stop where their head says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..reasoner.evaluate import left_padded
from ..reasoner.tokenizer import END, END_THINK
from .thinker import Thinker

MAX_TOKENS = 64  # of an answer


def ends(logits: torch.Tensor) -> torch.Tensor:
    """The stop head's more likely choice."""
    return logits > 0


@dataclass
class Answerer:
    """Writes after prompts: a pad for every latent step, the end marker, the answer."""

    thinker: Thinker
    tokenizer: Any
    num_latents: int  # at most, where a stop head may end them
    thoughts: list[torch.Tensor] = field(default_factory=list)  # z of every row's real steps

    @torch.inference_mode()
    def __call__(self, prompts: list[str]) -> list[list[int]]:
        """The tokens after each prompt."""
        inputs = left_padded(self.tokenizer, prompts)
        tape = self.thinker.prompt(inputs.input_ids, inputs.attention_mask.bool())
        z, is_real = self.thinker.draw(tape, self.num_latents, ends)
        self.thoughts.append(z[is_real])
        marker, end = (self.tokenizer.convert_tokens_to_ids(t) for t in (END_THINK, END))
        token, pad = torch.full((len(prompts), 1), marker), self.tokenizer.pad_token_id
        written, is_active = [token], torch.ones_like(token, dtype=torch.bool)
        while is_active.any() and len(written) < MAX_TOKENS:
            tape.extend(self.thinker.embed(token), is_active)
            token = torch.where(is_active, self.thinker.logits(tape.last).argmax(-1), pad)
            written.append(token)
            is_active = is_active & (token != end)
        texts: list[list[int]] = torch.cat(written, dim=1).tolist()
        lengths: list[int] = is_real.sum(1).tolist()
        return [[pad] * n + text for n, text in zip(lengths, texts, strict=True)]

    @property
    def diversity(self) -> float:
        """1 - mean cosine similarity of two latents of the whole set: 0 where all are alike."""
        z = torch.nn.functional.normalize(torch.cat(self.thoughts), dim=-1)
        n = len(z)
        return 1.0 - ((z.sum(0).square().sum() - n) / (n * (n - 1))).item()
