"""Which slots take latent steps, on the host; their inputs by ledger row, on the device.

How many steps a request takes is on the device, for a head may stop it there; the host knows the
most that it takes, and so plans a step without waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..capabilities import ROWS_PER_SLOT
from ..ledger import Rows
from .noise import seed_of
from .rows import uploaded


@dataclass(frozen=True)
class Stamp:
    """What admission says of a request's latent steps."""

    steps: int  # the most it takes
    placeholder: int  # the id recorded at each
    seed: int | None = None  # of its noise; None: by its id

    @classmethod
    def of(cls, stamp: Mapping[str, Any] | None, seed: int | None = None) -> Stamp | None:
        """Out of admission's stamp; None where the request takes none."""
        found = None if stamp is None else stamp.get("latent")
        return cls(**found, seed=seed) if found and found["steps"] else None


class LatentSlots:
    """Parameters by slot; latent inputs by ledger row, which outlives a preemption."""

    def __init__(
        self, num_slots: int, max_steps: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.steps = np.zeros(num_slots, dtype=np.int64)  # the most it takes
        self.prompt_len = np.zeros(num_slots, dtype=np.int64)
        self.placeholder = np.zeros(num_slots, dtype=np.int64)
        self.row = np.zeros(num_slots, dtype=np.int64)
        self.seed = np.zeros(num_slots, dtype=np.int64)
        self.read_every = np.zeros(num_slots, dtype=np.int64)  # so-many-th latent in words; 0: none
        # Uninitialised, so that a CPU commits only what it comes to use.
        num_rows = ROWS_PER_SLOT * num_slots
        self._rows = Rows(num_rows)
        self.vectors = torch.empty(num_rows, max_steps, width, dtype=dtype, device=device)
        self.num_steps = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._new: list[tuple[int, int]] = []  # rows whose number of steps is to be written
        self._slot_of: dict[str, int] = {}

    def add(
        self, slot: int, req_id: str, stamp: Stamp | None, prompt_len: int, read_every: int = 0
    ) -> None:
        """Take a request into a slot, new or back from preemption.

        Args:
            read_every: so-many-th latent is to be read in words; 0: none.
        """
        self.prompt_len[slot], self.read_every[slot] = prompt_len, read_every
        self.steps[slot] = 0
        if stamp is None:
            return
        is_new, row = req_id not in self._rows, self._row_of(req_id)
        if is_new:
            self._new.append((row, stamp.steps))
        self._slot_of[req_id] = slot
        self.steps[slot], self.row[slot] = stamp.steps, row
        self.placeholder[slot] = stamp.placeholder
        self.seed[slot] = seed_of(req_id) if stamp.seed is None else stamp.seed

    def _row_of(self, req_id: str) -> int:
        """A request's row of the ledger, which grows where preempted requests hold all of them."""
        row = self._rows.row_of(req_id)
        if row is None:
            num_more = len(self.steps)
            self._rows.grow(num_more)
            more = self.vectors.new_empty(num_more, *self.vectors.shape[1:])
            self.vectors = torch.cat([self.vectors, more])
            self.num_steps = torch.cat([self.num_steps, self.num_steps.new_zeros(num_more)])
            row = self._rows.row_of(req_id)
            assert row is not None
        return row

    def apply_staged_writes(self) -> None:
        """Write what is new to the device, without waiting for it."""
        if self._new:
            rows, steps = uploaded(np.asarray(self._new).T, self.num_steps.device).unbind()
            self.num_steps[rows] = steps
            self._new.clear()

    def clear(self, req_id: str) -> None:
        """Forget the slot of a request that was removed from the batch."""
        slot = self._slot_of.pop(req_id, None)
        if slot is not None:
            self.steps[slot] = 0

    def release(self, req_id: str) -> None:
        """Give back the row of a request that has ended."""
        self._rows.release(req_id)
