"""`warm_up`: the Triton kernels that a step may launch, compiled before one waits."""

from __future__ import annotations

import torch

from .confidence import confidence
from .decide import decide
from .layout import LedgerTensors, Markers, Record, Slots
from .mix import mix


def warm_up(
    embeds: torch.Tensor,
    table: torch.Tensor,
    vocab_size: int,
    prefill_lens: torch.Tensor,
    seeds: torch.Tensor,
    tokens: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    markers: Markers,
    scale: float = 1.0,
    vocab_start: int = 0,
) -> None:
    """Launch `confidence`, `decide` and `mix` on an empty slot.

    A kernel is compiled for the types and constants that it is launched with, in a second or more.
    `mix_full` is left out: torch's kernels, which it launches, come compiled. Nothing that is given
    is changed.

    Args:
        vocab_size: of the logits, which are float32; the others as of `mix` and `decide`.
        slots: slot 0 must have no policy.
    """
    device = embeds.device
    row = torch.zeros(1, dtype=torch.int64, device=device)
    starts = torch.tensor([0, 1], dtype=torch.int32, device=device)
    found = confidence(torch.zeros(1, vocab_size, device=device), row, slots)
    mix(embeds, table, row, starts, row, slots, ledger, scale, vocab_start)
    decide(
        found, row.clone(), row, row, prefill_lens, seeds, tokens, slots, ledger, markers,
        Record.empty(1, 0, device),
    )  # fmt: skip
