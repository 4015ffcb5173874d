"""What a step does with each row of its batch, planned on the host before the forward pass.

A row is one position of one request; a part is the rows of one set of weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from vllm.v1.worker.gpu.input_batch import InputBatch

from ..latent.rows import BatchRows, Bools, Indices, rows_of, uploaded
from ..latent.slots import LatentSlots
from .attention import Attention
from .slots import ShortcutSlots


@dataclass(frozen=True)
class Part:
    """The requests of one set of weights. What of it a step does not need, no one computes."""

    whole: Attention  # what the batch attends with
    requests_np: Indices  # of the batch

    @cached_property
    def requests(self) -> torch.Tensor:
        """The same on the device."""
        return uploaded(self.requests_np, self.whole.device)

    @cached_property
    def rows(self) -> torch.Tensor:
        """Their rows of the batch."""
        batch, requests = self.whole.batch, self.requests_np
        counts = batch.num_scheduled_tokens[requests]
        return uploaded(rows_of(batch.query_start_loc_np[requests], counts), self.whole.device)

    @cached_property
    def attention(self) -> Attention:
        """What they attend with."""
        is_whole = len(self.requests_np) == self.whole.batch.num_reqs
        return self.whole if is_whole else self.whole.of(self.requests_np, self.rows)

    def entered(self) -> AbstractContextManager[None]:
        """Attention layers see these requests alone."""
        return nullcontext() if self.attention is self.whole else self.attention.entered()

    @property
    def last_rows(self) -> Indices:
        """Each request's last row, counted within the part."""
        found: Indices = self.attention.batch.query_start_loc_np[1 : len(self.requests_np) + 1] - 1
        return found


@dataclass(frozen=True)
class Wave:
    """Latent steps of different requests that are read at once, at most one a request.

    A decode step has one wave; the replay after a preemption as many as there are steps.
    """

    rows_np: Indices  # into the part
    rows: torch.Tensor
    slots: torch.Tensor
    follows_np: Bools  # whether there is a latent step before it


@dataclass(frozen=True)
class Routes:
    """Rows of the student's part that may skip layers."""

    rows_np: Indices  # into the part
    rows: torch.Tensor | None  # None: all of them
    limits: np.ndarray[Any, np.dtype[np.float32]]  # a layer is skipped where w's logit is above it
    waves: list[Wave]
    is_decode: bool  # whether every row of the part is one request's


@dataclass(frozen=True)
class Plan:
    """A batch with at least one request of the student's."""

    base: Part | None
    student: Part
    routes: Routes | None
    num_skipped: Indices  # layers skipped at each request's last row, counted by the forward pass


class _Rows(BatchRows):
    """The student's rows, one array a property, in the order of the batch."""

    def __init__(
        self, batch: InputBatch, requests: Indices, slots: ShortcutSlots, latents: LatentSlots
    ) -> None:
        super().__init__(batch, requests, latents.prompt_len)
        self.depth, self.limit = slots.depth[self.slots], slots.limit[self.slots]
        self.is_latent = (self.generated >= 0) & (self.generated < latents.steps[self.slots])
        # Of those of this batch: 0 for the first latent step of each request, and so on.
        self.wave = self.generated - self.first
        self.is_decode = bool((self.counts == 1).all())


def _waves(rows: _Rows, is_routed: Bools, device: torch.device) -> list[Wave]:
    found = np.flatnonzero(is_routed & rows.is_latent)
    waves = []
    for number in range(int(rows.wave[found].max(initial=-1)) + 1):
        at = found[rows.wave[found] == number]
        slots = uploaded(rows.slots[at], device)
        waves.append(Wave(at, uploaded(at, device), slots, rows.generated[at] > 0))
    return waves


def _routes(rows: _Rows, slots: ShortcutSlots, device: torch.device) -> Routes | None:
    # No w is above 1, and nothing is above NaN, the depth of a request that skips no layer.
    asks, limits = (rows.generated >= 0) & (rows.depth < 1), rows.limit
    if not slots.has_depth:
        # The first latent step is among them, for its output to be kept, but cannot skip.
        asks &= rows.is_latent
        limits = np.where(rows.generated == 0, np.float32(np.inf), limits)
    if not asks.any():
        return None
    routed = np.flatnonzero(asks)
    return Routes(
        rows_np=routed,
        rows=None if len(routed) == len(asks) else uploaded(routed, device),
        limits=limits[routed],
        waves=_waves(rows, asks, device) if slots.has_step else [],
        is_decode=rows.is_decode,
    )


def plan_step(
    batch: InputBatch, slots: ShortcutSlots, latents: LatentSlots, whole: Attention
) -> Plan | None:
    """The plan of a batch; None where no request in it is the student's.

    Args:
        whole: what the whole batch attends with.
    """
    is_student = slots.is_student[batch.idx_mapping_np]
    if not is_student.any():
        return None
    device = whole.device
    ours, theirs = np.flatnonzero(is_student), np.flatnonzero(~is_student)
    return Plan(
        base=Part(whole, theirs) if len(theirs) else None,
        student=Part(whole, ours),
        routes=_routes(_Rows(batch, ours, slots, latents), slots, device),
        num_skipped=np.zeros(batch.num_reqs, dtype=np.int64),
    )
