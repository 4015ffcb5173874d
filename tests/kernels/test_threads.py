"""A parallel loop of numba's leaves torch its threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from scripts import run_with_log

CORES = sorted(os.sched_getaffinity(0))[:2]
OPENMP = next((Path(torch.__file__).parent / "lib").glob("libgomp*"), None)


@pytest.mark.skipif(len(CORES) < 2 or OPENMP is None, reason="needs two cores and torch's libgomp")
@pytest.mark.parametrize("arguments", [[], ["numba first"]], ids=["ours first", "numba first"])
def test_torch_keeps_its_threads(arguments: list[str]) -> None:
    """It lost all but one to the first soft request, and every later step took twice as long."""
    said, _ = run_with_log(
        "kernels/numba_threads.py",
        *arguments,
        LD_PRELOAD=str(OPENMP),
        OMP_NUM_THREADS="2",
        GOMP_CPU_AFFINITY=" ".join(map(str, CORES)),
    )
    assert said == {"own_cores": 1, "before": 2, "after": 2}
