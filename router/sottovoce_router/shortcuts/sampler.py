"""`ShortcutSampler`: the record of a step says how many layers were skipped before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sottovoce_kernels import Record

from ..latent.rows import Indices, uploaded
from ..latent.sampler import LatentSampler, blank


class ShortcutSampler(LatentSampler):
    """The latent sampler of a model with shortcuts; batches without the student pass untouched."""

    def __init__(
        self, *args: Any, take_skipped: Callable[[], Indices | None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._take_skipped = take_skipped

    def _complete(self, record: Record | None, logits: torch.Tensor) -> Record | None:
        """The record with the layers that each request's last row skipped."""
        record, skipped = super()._complete(record, logits), self._take_skipped()
        if skipped is None:
            return record
        record = record or blank(logits)
        if skipped.any():
            record.ids[:, 1] += uploaded(16 * skipped, logits.device)
        return record
