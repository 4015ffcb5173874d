"""What it costs to come back from a preemption: the soft inputs, mixed anew for a whole prefill.

`op` times `mix` alone against looking up as many rows; `share` against the prefill that it is part
of, for it is less than a thousandth of a crowded engine's time; `engine` times such an engine, in
which latent requests are preempted and replayed, against explicit requests that are preempted too.
"""

from __future__ import annotations

from statistics import median
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
    "kv_cache_memory_bytes": 64 << 20,  # else vLLM asks for most of the memory, whatever the blocks
    "disable_log_stats": False, "enable_prefix_caching": False,
}  # fmt: skip
_NUM_REQUESTS, _STEPS = 16, 200
ALONE: dict[str, Any] = {
    **OPTIONS, "kv_cache_memory_bytes": 1 << 30, "max_num_batched_tokens": 2048,
    "enable_prefix_caching": False,
}  # fmt: skip
# Tokens of two prompts, each one chunk; what the longer takes more is its positions' prefill alone.
_SHORT, _LONG, _WORD = 100, 1900, " the"


def _soft(positions: int, dtype: torch.dtype) -> Batch:
    """A request whose positions are all soft, with all their terms."""
    shape = Shape(1, _VOCAB, _TOP_N, _HIDDEN, dtype)
    batch = Batch(shape, 1, torch.device("cpu"), positions)
    batch.fill_ledger()
    return batch


def bench_op(positions: int, rounds: int) -> None:
    """A row of mixing the inputs of a request of so many soft positions over looking them up."""
    batch, ids = _soft(positions, torch.float32), torch.randint(_VOCAB, (positions,))
    out = torch.empty(positions, _HIDDEN)
    pairs = paired(
        lambda: cpu_seconds(lambda _: batch.replay(out), 1),
        lambda: cpu_seconds(lambda _: torch.index_select(batch.table, 0, ids, out=out), 1),
        rounds,
        rest_s=0.0,
    )
    about = {"positions": positions, "top_n": _TOP_N, "hidden": _HIDDEN}
    report("replay", about, "mix over a lookup", pairs)


def _prefill_s(engine: Engine) -> float:
    """Seconds that a position of a prompt takes."""
    short, long = (engine.run(_WORD * n, [1], SAMPLING) for n in (_SHORT, _LONG))
    return (long - short) / (_LONG - _SHORT)


def bench_share(model: str, dtype: str, rounds: int) -> None:
    """A row of mixing a replayed position over computing a position in a prefill."""
    positions, engine = _LONG - _SHORT, Engine("sottovoce", model, dtype=dtype, **ALONE)
    batch = _soft(positions, getattr(torch, dtype))
    out = torch.empty(positions, _HIDDEN, dtype=getattr(torch, dtype))
    pairs = paired(
        lambda: cpu_seconds(lambda _: batch.replay(out), 1) / positions,
        lambda: _prefill_s(engine),
        rounds,
        rest_s=0.0,
    )
    engine.close()
    mix_us, prefill_us = (round(1e6 * median(side), 2) for side in zip(*pairs, strict=True))
    about = {"positions": positions, "top_n": _TOP_N, "hidden": _HIDDEN, "dtype": dtype}
    metric = "a position mixed anew over its prefill"
    report("replay", about, metric, pairs, mix_us=mix_us, prefill_us=prefill_us)
    print(f"  {mix_us} us of {prefill_us} us")


def bench_engine(model: str, dtype: str, rounds: int) -> None:
    """A row of latent over explicit in a crowded engine, with the preemptions of each side."""
    engine = Engine("sottovoce", model, dtype=dtype, **CROWDED)
    lengths, seen = [_STEPS] * _NUM_REQUESTS, {"latent": 0, "explicit": 0}

    def run(name: str, sampling: dict[str, Any]) -> float:
        done = engine.measure(PROMPT, lengths, sampling)
        seen[name] += done.num_preemptions
        print(f"  {name}: {done.seconds:.1f} s, {done.num_preemptions} preemptions", flush=True)
        return done.seconds

    pairs = paired(
        lambda: run("latent", LATENT), lambda: run("explicit", SAMPLING), rounds, rest_s=0.0
    )
    engine.close()
    if not all(seen.values()):
        raise RuntimeError(f"nothing was preempted: {seen}; make the engine more crowded")
    about = {"concurrent": _NUM_REQUESTS, "steps": _STEPS, "dtype": dtype}
    report("replay", about, "crowded engine, latent over explicit", pairs, preemptions=seen)
