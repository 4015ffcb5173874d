"""Seconds of a call, on a CPU and on a GPU; calls that read different memory are made in turn."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_MIN_S = 0.05  # that a CPU's sample lasts
_MAX_COPIES, _MAX_BYTES = 8192, 1 << 30

Call = Callable[[int], object]  # of a copy's number
Clock = Callable[[Call, int], float]


def num_copies(num_bytes: int, cache_bytes: int) -> int:
    """Copies that together are four times what a cache holds, so that a turn finds none of it there.

    No more than 8,192, and no more than fit in 1 GiB.
    """
    wanted = -(-4 * cache_bytes // num_bytes)
    return max(min(wanted, _MAX_COPIES, _MAX_BYTES // num_bytes), 1)


def cpu_seconds(call: Call, copies: int) -> float:
    """Seconds of one call, of as many turns over the copies as last long enough."""
    num_calls, started = 0, time.perf_counter()
    while True:
        for copy in range(copies):
            call(copy)
        num_calls += copies
        elapsed = time.perf_counter() - started
        if elapsed >= _MIN_S:
            return elapsed / num_calls


def gpu_seconds(call: Call, copies: int) -> float:
    """Seconds of one call in a CUDA graph of a turn over the copies; Triton clears the cache between."""
    from triton.testing import do_bench

    for copy in range(copies):  # compiles, outside the capture
        call(copy)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in range(copies):
            call(copy)
    found = do_bench(graph.replay, warmup=5, rep=40, return_mode="median")
    return float(found) * 1e-3 / copies
