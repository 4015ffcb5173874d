"""Which steps of a chain a latent stands for, and the decoder that reads them from it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .example import Example, padded
from .llama import Reader, Tape
from .reasoner.data import IGNORED

DECODER_LAYERS = 2
NUM_PARTS = 3


def latent_of(step: int, num_steps: int, num_latents: int) -> int:
    """The latent, from 0, that stands for a step: its own, or a share of one where steps are more.

    Step i is always latent i where latents suffice, so that a latent's task, the next step, does
    not depend on how many follow; the latents after the last step stand for nothing.
    """
    return step if num_steps <= num_latents else int((step + 0.5) * num_latents / num_steps)


def covered(example: Example, num_latents: int) -> list[list[int]]:
    """The tokens of the thought that each latent stands for; none where latents outnumber steps."""
    found: list[list[int]] = [[] for _ in range(num_latents)]
    for token, line in zip(example.thought, example.lines, strict=True):
        found[latent_of(line, len(example.critical), num_latents)].append(token)
    return found


@dataclass(frozen=True)
class StepTexts:
    """M texts of up to T tokens, and the latent that each belongs to."""

    rows: torch.Tensor  # int64 [M], of the batch
    latents: torch.Tensor  # int64 [M]
    ids: torch.Tensor  # int64 [M, T], padded on the right
    labels: torch.Tensor  # int64 [M, T]: ids, IGNORED where padding


def step_texts(group: Sequence[Example], num_latents: int, pad: int) -> StepTexts:
    """Every latent's text, closed by the end of a turn, but for latents that stand for nothing."""
    found = [
        (row, latent, [*text, example.answer[-1]])
        for row, example in enumerate(group)
        for latent, text in enumerate(covered(example, num_latents))
        if text
    ]
    rows, latents, texts = zip(*found, strict=True)
    return StepTexts(
        torch.tensor(rows), torch.tensor(latents), padded(texts, pad), padded(texts, IGNORED)
    )


class StepDecoder(nn.Module):
    """Reads a step's text from its latent: SIM-CoT's auxiliary decoder (arXiv 2509.20317).

    It starts as the reasoner's first layers, two where the paper takes a whole model, and is not
    needed to answer: the server reads latents by it for traces (`sottovoce_router.latent.reader`).
    """

    def __init__(self, model: Any, num_layers: int = DECODER_LAYERS) -> None:
        super().__init__()
        own = copy.deepcopy(model)
        own.model.layers = own.model.layers[:num_layers]
        self.reader = Reader(own)

    def forward(self, z: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits [M, T, V] of ids [M, T], each given the latent [M, H] and the tokens before."""
        x = torch.cat([z.unsqueeze(1), self.reader.embed(ids[:, :-1])], dim=1)
        shape = x.shape[:2]
        positions = torch.arange(shape[1]).expand(shape)
        mask = torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
        found = self.reader.segment(x, None, positions, mask)
        return self.reader.logits(self.reader.normed(found.states[-1]))

    @torch.inference_mode()
    def write(self, z: torch.Tensor, end: int, max_tokens: int = 48) -> list[list[int]]:
        """The text of each latent [M, H], greedily, without its end."""
        tape = Tape(self.reader)
        is_active = torch.ones(len(z), 1, dtype=torch.bool)
        x, texts = z.unsqueeze(1), list[torch.Tensor]()
        while is_active.any() and len(texts) < max_tokens:
            tape.extend(x, is_active)
            token = self.reader.logits(tape.last).argmax(-1)
            is_active = is_active & (token != end)
            texts.append(torch.where(is_active, token, -1))
            x = self.reader.embed(token)
        rows: list[list[int]] = torch.cat(texts, dim=1).tolist()
        return [[token for token in row if token >= 0] for row in rows]

    def nll(self, z: torch.Tensor, texts: StepTexts) -> torch.Tensor:
        """Mean cross-entropy, in nats a token, of the texts given latents z [B, K, H]."""
        is_label = texts.labels != IGNORED
        order = is_label.sum(1).argsort()
        total = z.new_zeros(())
        for part in order.tensor_split(NUM_PARTS):  # of like length: less padding is read
            longest = int(is_label[part].sum(1).amax()) if len(part) else 0
            logits = self(z[texts.rows[part], texts.latents[part]], texts.ids[part, :longest])
            labels = texts.labels[part, :longest].flatten()
            total = total + F.cross_entropy(logits.flatten(0, 1).float(), labels, reduction="sum")
        return total / is_label.sum()
