"""Says how many threads torch has, before and after a parallel loop of numba's has run.

With an argument, numba is imported before our package is, and has counted the cores by itself.
"""

from __future__ import annotations

import os
import sys

import torch

if sys.argv[1:]:
    import numba  # noqa: F401

from scenes import make_scene

from scripts import say
from sottovoce_kernels import confidence


def main() -> None:
    """As vLLM starts a model's process: two threads, each bound to a core of its own."""
    before, own_cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    scene = make_scene(7, 1000, torch.float32)
    confidence(scene.logits, scene.slot_ids, scene.slots)
    say({"own_cores": own_cores, "before": before, "after": torch.get_num_threads()})


if __name__ == "__main__":
    main()
