"""`LatentSampler`: at latent steps and after the last one, what is recorded is not sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sottovoce_kernels import RECORD_EXTRA, Record, Route

from .. import record as records
from ..sampler import RoutedSampler
from .plan import Given, Plan, Read
from .reader import StepReader
from .slots import LatentSlots


def blank(logits: torch.Tensor) -> Record:
    """The record of a step of which nothing is told yet."""
    record = Record.empty(logits.shape[0], 0, logits.device)
    record.ids[:, -1] = -RECORD_EXTRA
    return record


class LatentSampler(RoutedSampler):
    """The routed sampler with latent steps; batches without any pass untouched."""

    def __init__(
        self,
        *args: Any,
        latents: LatentSlots,
        end: torch.Tensor,
        take_plan: Callable[[], Plan | None],
        reader: StepReader | None = None,
    ) -> None:
        """Take over a sampler.

        Args:
            args: as of `RoutedSampler`.
            end: the end marker, int64 [e].
            reader: of latents that a plan has read.
        """
        super().__init__(*args)
        self._latents, self._end, self._take_plan = latents, end, take_plan
        self._plan: Plan | None = None
        self._reader = reader

    def __call__(self, logits: torch.Tensor, input_batch: Any) -> Any:
        """As the routed sampler, by the plan of this step."""
        self._plan = self._take_plan()
        return super().__call__(logits, input_batch)

    def _steps_left(self, given: Given) -> torch.Tensor:
        """Latent steps that come with and after each recorded token, 0 or less past the last."""
        left: torch.Tensor = self._latents.num_steps[given.ledger_rows] - given.indices
        return left

    def _with_texts(self, record: Record, read: Read) -> Record:
        """The record with what the latents made in this step are read as, where they are fed."""
        latents = self._latents
        assert self._reader is not None
        texts = self._reader.write(latents.vectors[read.ledger_rows, read.steps])
        is_fed = latents.num_steps[read.ledger_rows] > read.steps
        return records.with_texts(record, read.requests, texts, is_fed)

    def _amend(self, sampled: torch.Tensor) -> None:
        """Overwrite what was sampled by placeholders and the end marker."""
        if self._plan is None or self._plan.given is None:
            return
        given, end = self._plan.given, self._end
        left = self._steps_left(given)
        marker = end[(-left).clamp(0, len(end) - 1)]
        ids = torch.where(left > 0, given.placeholders, marker)
        kept = sampled[given.requests]
        sampled[given.requests] = torch.where(left > -len(end), ids, kept).to(sampled.dtype)

    def _complete(self, record: Record | None, logits: torch.Tensor) -> Record | None:
        """The record, which says what was not chosen."""
        if self._plan is None:
            return record
        record = record or blank(logits)
        if self._plan.given is not None:
            self._mark(record.ids, self._plan.given)
        return self._with_texts(record, self._plan.read) if self._plan.read else record

    def _mark(self, ids: torch.Tensor, given: Given) -> None:
        left, mark = self._steps_left(given), ids[given.requests, 0]
        width, route = mark // 8, mark % 8
        # Only a traced request has a route here: the end marker of the others goes unnoted.
        is_forced = (left > -len(self._end)) & (route != int(Route.NONE))
        route = torch.where(is_forced, int(Route.FORCED), route)
        ids[given.requests, 0] = 8 * width + torch.where(left > 0, int(Route.LATENT), route)
