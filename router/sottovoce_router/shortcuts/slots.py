"""Which slots run the student, with which shortcuts; and the latent inputs of every live request.

All of it but the vectors is known to the host, so a step is planned without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..ledger import Rows
from .manifest import Manifest
from .params import MAX_STEPS


@dataclass(frozen=True)
class Stamp:
    """What admission says of a request with shortcuts."""

    depth: float | None
    steps: int
    placeholder: int  # the id recorded at a latent step

    @classmethod
    def of(cls, stamp: Mapping[str, Any] | None) -> Stamp | None:
        """Out of admission's stamp; None where the request has no shortcuts."""
        params = None if stamp is None else stamp["params"]["shortcuts"]
        return (
            None
            if params is None or stamp is None
            else cls(**params, placeholder=stamp["placeholder"])
        )


class ShortcutSlots:
    """Parameters by slot, on the host; latent inputs by ledger row, on the device."""

    def __init__(
        self, num_slots: int, manifest: Manifest, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.has_depth, self.has_step = manifest.has_depth, manifest.has_step
        self.is_student = np.zeros(num_slots, dtype=bool)
        self.depth = np.full(num_slots, np.nan, dtype=np.float32)  # NaN: skips no layer
        self.limit = np.full(num_slots, np.nan, dtype=np.float32)  # the logit of the depth
        self.steps = np.zeros(num_slots, dtype=np.int64)
        self.prompt_len = np.zeros(num_slots, dtype=np.int64)
        self.placeholder = np.zeros(num_slots, dtype=np.int64)
        self.row = np.zeros(num_slots, dtype=np.int64)
        # Preempted requests keep their rows while others run. Uninitialised, so that a CPU commits
        # only what it comes to use.
        self._rows = Rows(2 * num_slots)
        self.latents = torch.empty(
            2 * num_slots, MAX_STEPS, manifest.width, dtype=dtype, device=device
        )
        # Every layer's output at the last latent step that was read. A returning request reads all
        # of its steps again, so this need not outlive the slot.
        self.before = torch.empty(
            num_slots, manifest.num_layers, manifest.width, dtype=dtype, device=device
        )
        self._slot_of: dict[str, int] = {}

    def add(self, slot: int, req_id: str, stamp: Stamp | None, prompt_len: int) -> None:
        """Take a request into a slot, new or back from preemption."""
        self.is_student[slot] = stamp is not None
        if stamp is None:
            return
        self._slot_of[req_id] = slot
        depth = np.float64(np.nan if stamp.depth is None else stamp.depth)
        with np.errstate(divide="ignore"):  # the logits of 0 and 1 are infinite
            self.depth[slot], self.limit[slot] = depth, np.log(depth) - np.log1p(-depth)
        self.steps[slot], self.prompt_len[slot] = stamp.steps, prompt_len
        self.placeholder[slot] = stamp.placeholder
        if stamp.steps:
            self.row[slot] = self._row_of(req_id)

    def _row_of(self, req_id: str) -> int:
        """A request's row of the ledger, which grows where preempted requests hold all of them."""
        row = self._rows.row_of(req_id)
        if row is None:
            num_more = len(self.is_student)
            self._rows.grow(num_more)
            more = self.latents.new_empty(num_more, *self.latents.shape[1:])
            self.latents = torch.cat([self.latents, more])
            row = self._rows.row_of(req_id)
            assert row is not None
        return row

    def clear(self, req_id: str) -> None:
        """Forget the slot of a request that was removed from the batch."""
        slot = self._slot_of.pop(req_id, None)
        if slot is not None:
            self.is_student[slot] = False

    def release(self, req_id: str) -> None:
        """Give back the row of a request that has ended."""
        self._rows.release(req_id)
