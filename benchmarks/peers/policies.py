"""Explicit sampling, Soft Thinking and SwiReasoning as a plain loop has them, on rows of logits."""

from __future__ import annotations

from typing import Protocol

import torch

TEMPERATURE, TOP_K, TOP_P, MIN_P, TOP_N = 0.6, 30, 0.95, 0.001, 10
WINDOW = 512  # steps that SwiReasoning stays discrete, at least
EXIT_BLEND = 0.7  # what is left of the mixture in the first discrete input


class Policy(Protocol):
    """What a step feeds to the next."""

    def start(self, row: int) -> None:
        """A new request has taken the row."""

    def inputs(self, logits: torch.Tensor) -> torch.Tensor:
        """The next inputs [B, hidden] of logits [B, V]."""
        ...


def filtered(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens [B, TOP_K] that sampling leaves, best first, and their renormalised weights."""
    p = torch.softmax(logits.float() / TEMPERATURE, dim=-1)
    top = torch.topk(p, TOP_K, dim=-1)
    ahead = top.values.cumsum(-1) - top.values
    keep = (ahead < TOP_P) & (top.values >= MIN_P * top.values[:, :1])
    w = torch.where(keep, top.values, 0.0)
    return top.indices, w / w.sum(-1, keepdim=True)


class Explicit:
    """A sampled token, or with `greedy` the likeliest."""

    def __init__(self, table: torch.Tensor, greedy: bool = False) -> None:
        self._table, self._greedy = table, greedy

    def start(self, row: int) -> None:
        """There is nothing to forget."""

    def tokens(self, logits: torch.Tensor) -> torch.Tensor:
        """One token a row."""
        if self._greedy:
            return logits.argmax(-1)
        ids, w = filtered(logits)
        return ids.gather(1, torch.multinomial(w, 1))[:, 0]

    def inputs(self, logits: torch.Tensor) -> torch.Tensor:
        """Their embeddings."""
        return self._table[self.tokens(logits)]


class Soft:
    """Soft Thinking: the mixture of the best TOP_N."""

    def __init__(self, table: torch.Tensor) -> None:
        self._table = table

    def start(self, row: int) -> None:
        """There is nothing to forget."""

    def inputs(self, logits: torch.Tensor) -> torch.Tensor:
        """The mixtures, summed in float32."""
        ids, w = filtered(logits)
        ids, w = ids[:, :TOP_N], w[:, :TOP_N]
        w = w / w.sum(-1, keepdim=True)
        return torch.bmm(w[:, None], self._table[ids].float())[:, 0].to(self._table.dtype)


class Swi:
    """SwiReasoning (arXiv 2510.05069): mixtures of the whole vocabulary until entropy falls.

    Soft turns discrete as soon as the entropy is below that of the last turn; discrete turns soft
    once it is above, and no sooner than after WINDOW steps. The first discrete input is blended
    with the end marker's embedding.
    """

    def __init__(self, table: torch.Tensor, end_marker: int, batch_size: int) -> None:
        self._table, self._end, self._explicit = table, end_marker, Explicit(table)
        self.is_soft = torch.ones(batch_size, dtype=torch.bool)
        self._reference = torch.full((batch_size,), torch.nan)  # of the last turn; NaN: none yet
        self._stayed = torch.zeros(batch_size, dtype=torch.int64)

    def start(self, row: int) -> None:
        """A new request starts soft."""
        self.is_soft[row], self._reference[row], self._stayed[row] = True, torch.nan, 0

    def _turn(self, entropy: torch.Tensor) -> torch.Tensor:
        """Take the rows' turns; returns which have just turned discrete."""
        is_first = self._reference.isnan()
        down = ~is_first & self.is_soft & (entropy < self._reference)
        up = ~is_first & ~self.is_soft & (entropy > self._reference) & (self._stayed >= WINDOW)
        turned = down | up
        self.is_soft = self.is_soft ^ turned
        self._reference = torch.where(is_first | turned, entropy, self._reference)
        self._stayed = torch.where(turned, 0, self._stayed) + 1
        return down

    def inputs(self, logits: torch.Tensor) -> torch.Tensor:
        """Mixtures of the soft rows, embeddings of the others."""
        p = torch.softmax(logits.float(), dim=-1)
        entropy = -(p * p.clamp_min(1e-30).log()).sum(-1)
        down = self._turn(entropy)
        discrete = self._explicit.inputs(logits).float()
        mixed = (p.to(self._table.dtype) @ self._table).float()
        left = EXIT_BLEND * mixed + (1 - EXIT_BLEND) * self._table[self._end].float()
        soft = torch.where(self.is_soft[:, None], mixed, discrete)
        return torch.where(down[:, None], left, soft).to(self._table.dtype)
