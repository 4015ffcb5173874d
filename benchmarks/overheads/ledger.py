"""The ledger: bytes reserved and resident, and a step's time far into a request against near its start."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from sottovoce_router.ledger import Ledger

from ..kernels.batch import Batch, Shape
from ..kernels.clock import cpu_seconds
from ..pairing import paired, report
from ..rows import write

TOP_N = 10
# SmolLM2's vocabulary and hidden size, as on this kind of machine.
_VOCAB, _HIDDEN = 49152, 576
_STATM, _PAGE = Path("/proc/self/statm"), 4096


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE


def _grown(action: Callable[[], object]) -> tuple[object, int]:
    before = _resident()
    return action(), _resident() - before


def memory(requests: int, positions: int) -> dict[str, int]:
    """Bytes of a ledger: as counted, resident when made, and when each position is written.

    Measured in a process of its own, in which nothing else takes or gives back memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_memory, requests, positions).result()


def _memory(requests: int, positions: int) -> dict[str, int]:
    ledger, fresh = _grown(
        lambda: Ledger(requests, positions, positions * TOP_N, torch.device("cpu"))
    )
    assert isinstance(ledger, Ledger)
    t = ledger.tensors

    def fill() -> None:
        for tensor in (t.ids, t.weights, t.counts, t.state):
            tensor.fill_(1)

    _, filled = _grown(fill)
    return {
        "counted_bytes": ledger.num_bytes,
        "bytes_per_position": ledger.num_bytes // (requests * positions),
        "resident_bytes_when_made": fresh,
        "resident_bytes_when_full": fresh + filled,
    }


def bench(requests: int, positions: int, rounds: int) -> None:
    """A row of the ledger's memory, and one of a step's time at its last position over its first."""
    sizes = {"requests": requests, "positions": positions, "top_n": TOP_N}
    found = memory(requests, positions)
    write("ledger", {"name": "ledger", "parameters": sizes, "metric": "memory", **found})
    print(", ".join(f"{k} {v:,}" for k, v in found.items()))
    batch = Batch(
        Shape(requests, _VOCAB, TOP_N, _HIDDEN, torch.float32), 1, torch.device("cpu"), positions
    )

    def at(generated: int) -> float:
        batch.go_to(generated)
        return cpu_seconds(batch.step, 1)

    pairs = paired(lambda: at(positions - 2), lambda: at(0), rounds, rest_s=0.0)
    report("ledger", sizes, "step, last position over first", pairs)
