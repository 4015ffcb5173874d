"""What it costs to come back from a preemption: the soft inputs, mixed anew for a whole prefill.

`op` times `mix` alone against looking up as many rows; `engine` a crowded engine, in which latent
requests are preempted and replayed, against explicit requests that are preempted too.
"""

from __future__ import annotations

from typing import Any

import torch

from ..engine import Engine
from ..kernels.batch import Batch, Shape
from ..kernels.clock import cpu_seconds
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING
from ..pairing import paired, report

_VOCAB, _HIDDEN, _TOP_N = 49152, 576, 10
# 16 requests of 8 blocks each in room for 6 of them.
CROWDED: dict[str, Any] = {
    **OPTIONS, "max_model_len": 256, "block_size": 32, "num_gpu_blocks_override": 48,
    "disable_log_stats": False, "enable_prefix_caching": False,
}  # fmt: skip
CROWDED.pop("kv_cache_memory_bytes")
_NUM_REQUESTS, _STEPS = 16, 200


def bench_op(positions: int, rounds: int) -> None:
    """A row of mixing the inputs of a request of so many soft positions over looking them up."""
    shape = Shape(1, _VOCAB, _TOP_N, _HIDDEN, torch.float32)
    batch = Batch(shape, 1, torch.device("cpu"), positions)
    ids = torch.randint(_VOCAB, (positions,))
    batch.fill_ledger()
    out = torch.empty(positions, _HIDDEN)
    pairs = paired(
        lambda: cpu_seconds(lambda _: batch.replay(out), 1),
        lambda: cpu_seconds(lambda _: torch.index_select(batch.table, 0, ids, out=out), 1),
        rounds,
        rest_s=0.0,
    )
    about = {"positions": positions, "top_n": _TOP_N, "hidden": _HIDDEN}
    report("replay", about, "mix over a lookup", pairs)


def bench_engine(model: str, dtype: str, rounds: int) -> None:
    """A row of latent over explicit in a crowded engine, with the preemptions of each side."""
    engine = Engine("sottovoce", model, dtype=dtype, **CROWDED)
    lengths, seen = [_STEPS] * _NUM_REQUESTS, {"latent": 0, "explicit": 0}

    def run(name: str, sampling: dict[str, Any]) -> float:
        done = engine.measure(PROMPT, lengths, sampling)
        seen[name] += done.num_preemptions
        return done.seconds

    pairs = paired(
        lambda: run("latent", LATENT), lambda: run("explicit", SAMPLING), rounds, rest_s=0.0
    )
    engine.close()
    if not all(seen.values()):
        raise RuntimeError(f"nothing was preempted: {seen}; make the engine more crowded")
    about = {"concurrent": _NUM_REQUESTS, "steps": _STEPS, "dtype": dtype}
    report("replay", about, "crowded engine, latent over explicit", pairs, preemptions=seen)
