"""What a step does with the requests that take latent steps, planned on the host.

By the most steps that each takes: where a stop head was quicker, the device knows better, and what
is planned for naught is left undone there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from vllm.v1.worker.gpu.input_batch import InputBatch

from .rows import BatchRows, Indices, uploaded
from .slots import LatentSlots


@dataclass(frozen=True)
class Fed:
    """Rows of the batch whose input may be a latent."""

    rows: torch.Tensor
    ledger_rows: torch.Tensor
    steps: torch.Tensor  # index of the latent step that each is


@dataclass(frozen=True)
class Made:
    """Requests of the batch whose state becomes the next latent input."""

    requests: torch.Tensor
    ledger_rows: torch.Tensor
    steps: torch.Tensor  # index of that input's step: so many have been read
    seeds: torch.Tensor


@dataclass(frozen=True)
class Read:
    """Requests of the batch whose next latent input is read in words."""

    requests: torch.Tensor
    ledger_rows: torch.Tensor
    steps: torch.Tensor  # index of that input's step


@dataclass(frozen=True)
class Given:
    """Requests of the batch that may record what is not theirs to choose."""

    requests: torch.Tensor
    ledger_rows: torch.Tensor
    indices: torch.Tensor  # of the recorded token, among the generated
    placeholders: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """A batch with at least one request that takes latent steps, now or at another time."""

    fed: Fed | None
    made: Made | None
    given: Given | None
    read: Read | None = None


def _columns(device: torch.device, *columns: Indices) -> list[torch.Tensor]:
    return list(uploaded(np.stack(columns), device).unbind())


def plan_step(batch: InputBatch, slots: LatentSlots, num_end: int) -> Plan | None:
    """The plan of a batch; None where none of its requests takes latent steps.

    Args:
        num_end: tokens of the end marker, written after the last latent step.
    """
    requests = np.flatnonzero(slots.steps[batch.idx_mapping_np])
    if not len(requests):
        return None
    device, at = batch.positions.device, batch.idx_mapping_np[requests]
    rows = BatchRows(batch, requests, slots.prompt_len)
    fed = (rows.generated >= 0) & (rows.generated < slots.steps[rows.slots])
    seen = batch.num_computed_tokens_np[requests] + batch.num_scheduled_tokens[requests]
    index, ledger_row = seen - slots.prompt_len[at], slots.row[at]
    given = (index >= 0) & (index < slots.steps[at] + num_end)
    # Of a prompt that is read in pieces, or again, only the end makes anything new.
    made = given & (index < slots.steps[at]) & (seen >= batch.prefill_len_np[requests])

    every = slots.read_every[at]
    read = made & (every > 0) & ((index + 1) % every.clip(1) == 0)

    def of(where: Indices, column: Indices) -> list[torch.Tensor]:
        columns = (requests, ledger_row, index, column)
        return _columns(device, *(c[where] for c in columns))

    where = rows.all[fed], slots.row[rows.slots[fed]], rows.generated[fed]
    return Plan(
        fed=Fed(*_columns(device, *where)) if fed.any() else None,
        made=Made(*of(made, slots.seed[at])) if made.any() else None,
        given=Given(*of(given, slots.placeholder[at])) if given.any() else None,
        read=Read(*of(read, every)[:3]) if read.any() else None,
    )
