"""`ShortcutSampler`: at latent steps and after the last one, what is recorded is not sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sottovoce_kernels import RECORD_EXTRA, Record, Route

from ..sampler import RoutedSampler
from .attention import uploaded
from .plan import Plan


def _mark(record: Record, plan: Plan) -> None:
    """Write the layers that the student's rows skipped, and which of its steps were not chosen."""
    ids, device = record.ids, record.ids.device
    if plan.num_skipped.any():
        ids[:, 1] += uploaded(16 * plan.num_skipped, device)
    if plan.forced is None:
        return
    rows = uploaded(plan.forced[0], device)
    is_latent = uploaded(plan.is_latent[plan.forced[0]].astype(np.int64), device) > 0
    width, route = ids[rows, 0] // 8, ids[rows, 0] % 8
    # Only a traced request has a route here: the end marker of the others goes unnoted.
    marker = torch.where(route == int(Route.NONE), route, int(Route.FORCED))
    ids[rows, 0] = 8 * width + torch.where(is_latent, int(Route.LATENT), marker)


class ShortcutSampler(RoutedSampler):
    """The routed sampler of a model with shortcuts; batches without the student pass untouched."""

    def __init__(self, *args: Any, take_plan: Callable[[], Plan | None]) -> None:
        super().__init__(*args)
        self._take_plan = take_plan
        self._plan: Plan | None = None

    def __call__(self, logits: torch.Tensor, input_batch: Any) -> Any:
        """As the routed sampler, by the plan of this step."""
        self._plan = self._take_plan()
        return super().__call__(logits, input_batch)

    def _amend(self, sampled: torch.Tensor) -> None:
        """Overwrite what was sampled where the plan says what is recorded."""
        if self._plan is not None and self._plan.forced is not None:
            requests, ids = self._plan.forced
            sampled[uploaded(requests, sampled.device)] = uploaded(ids, sampled.device)

    def _complete(self, record: Record | None, logits: torch.Tensor) -> Record | None:
        """The record with the student's share in it."""
        if self._plan is None:
            return record
        if record is None:
            record = Record.empty(logits.shape[0], 0, logits.device)
            record.ids[:, -1] = -RECORD_EXTRA
        _mark(record, self._plan)
        return record
