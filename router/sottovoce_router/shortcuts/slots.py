"""Which slots run the student, with which depth shortcut, and what its step shortcuts read.

All but the latter is known to the host, so a step is planned without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .manifest import Manifest


class ShortcutSlots:
    """Parameters by slot, on the host; states by slot, on the device."""

    def __init__(
        self, num_slots: int, manifest: Manifest, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.has_depth, self.has_step = manifest.has_depth, manifest.has_step
        self.is_student = np.zeros(num_slots, dtype=bool)
        self.depth = np.full(num_slots, np.nan, dtype=np.float32)  # NaN: skips no layer
        self.limit = np.full(num_slots, np.nan, dtype=np.float32)  # the logit of the depth
        # Every layer's output at the last latent step that was read. A returning request reads all
        # of its steps again, so this need not outlive the slot.
        self.before = torch.empty(
            num_slots, manifest.num_layers, manifest.width, dtype=dtype, device=device
        )
        self._slot_of: dict[str, int] = {}

    def add(self, slot: int, req_id: str, stamp: Mapping[str, Any] | None) -> None:
        """Take a request into a slot, new or back from preemption."""
        shortcuts = None if stamp is None else stamp["params"]["shortcuts"]
        self.is_student[slot] = shortcuts is not None
        if shortcuts is None:
            return
        self._slot_of[req_id] = slot
        depth = np.float64(np.nan if shortcuts["depth"] is None else shortcuts["depth"])
        with np.errstate(divide="ignore"):  # the logits of 0 and 1 are infinite
            self.depth[slot], self.limit[slot] = depth, np.log(depth) - np.log1p(-depth)

    def clear(self, req_id: str) -> None:
        """Forget the slot of a request that was removed from the batch."""
        slot = self._slot_of.pop(req_id, None)
        if slot is not None:
            self.is_student[slot] = False
