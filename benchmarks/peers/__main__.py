"""`make bench-peers`: throughput, latency and memory beside peers on one model and load, and curves."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, NamedTuple

from sottovoce_server.smollm2 import smollm2_gguf, smollm2_path

from ..engine import Engine
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING, serving_dtype
from ..pairing import REST_S, paired, report
from ..rows import append
from . import sweep
from .memory import Peak

SWI = {
    **SAMPLING,
    "extra_args": {"reasoning_mode": "routed", "routing": {"policy": "swi", "mix": "full"}},
}
# What ours is asked, by what a loop does.
_OURS: dict[str, Mapping[str, Any]] = {"explicit": SAMPLING, "soft": LATENT, "swi": SWI}
PEERS = ("v1", "mrv2", "llama.cpp", "llama.cpp-server", *(f"transformers-{name}" for name in _OURS))
_POSITIONS, _BLOCK = 2048, 128  # of a sequence, of a block of vLLM's cache


@dataclass(frozen=True)
class Peer:
    """How to start one, and what ours does that is the same."""

    label: str
    kind: str
    options: Mapping[str, Any]
    sampling: Mapping[str, Any]  # ours'
    is_gguf: bool = False


class Seen(NamedTuple):
    """A run of a load."""

    seconds: float
    p50: float  # of a request, from the load's submission to its end
    p95: float
    mib: float


def loads(requests: int, steps: int) -> dict[str, list[int]]:
    """Equal lengths, and lengths from a sixteenth to four times that, uniform in their logarithm."""
    rng = random.Random(0)
    spread = [max(int(steps / 16 * 64 ** rng.random()), 2) for _ in range(requests)]
    return {"equal lengths": [steps] * requests, "spread lengths": spread}


def room(batch: int) -> dict[str, Any]:
    """Every vLLM's, for the sequences of a batch and no more, so that memory can be compared.

    Without bytes for its cache, which the blocks override, vLLM asks for most of the machine's memory.
    """
    return {
        "max_model_len": _POSITIONS, "max_num_seqs": batch, "block_size": _BLOCK,
        "num_gpu_blocks_override": batch * _POSITIONS // _BLOCK,
        "kv_cache_memory_bytes": OPTIONS["kv_cache_memory_bytes"],
    }  # fmt: skip


def _vllm(args: argparse.Namespace) -> dict[str, Any]:
    return {**OPTIONS, **room(args.batch), "dtype": args.dtype}


def _http(args: argparse.Namespace, server: str) -> dict[str, Any]:
    common = {"server": server, "tokenizer": str(smollm2_path() / "tokenizer.json")}
    if server == "sottovoce":
        return {**common, **room(args.batch), "dtype": args.dtype}
    return {**common, **_llama(args), "num_connections": args.requests}


def _llama(args: argparse.Namespace) -> dict[str, Any]:
    return {"max_num_seqs": args.batch, "num_cached_tokens": args.batch * _POSITIONS}


def peers_of(name: str, args: argparse.Namespace) -> Iterator[Peer]:
    """One, or a loop's two."""
    if name in ("v1", "mrv2"):
        yield Peer(name, name, _vllm(args), SAMPLING)
    elif name == "llama.cpp":
        yield Peer("llama.cpp, Q4_1", name, _llama(args), SAMPLING, is_gguf=True)
    elif name == "llama.cpp-server":
        options = _http(args, "llama.cpp")
        yield Peer("llama.cpp's server, Q4_1", "http", options, SAMPLING, is_gguf=True)
    else:
        policy = name.removeprefix("transformers-")
        for refills in (False, True):
            options = {"policy": policy, "refills": refills, "dtype": args.dtype}
            options["max_num_seqs"] = args.batch
            label = f"transformers, {policy}, {'refilled' if refills else 'static'} batches"
            yield Peer(label, "transformers", options, _OURS[policy])


def seen(engine: Engine, lengths: Sequence[int], sampling: Mapping[str, Any]) -> Seen:
    """Run a load.

    Raises:
        RuntimeError: if not every request has ended.
    """
    with Peak(engine.pid) as peak:
        done = engine.measure(PROMPT, lengths, sampling)
    if len(done.latencies) != len(lengths):
        raise RuntimeError(f"{engine.kind}: {len(done.latencies)} requests of {len(lengths)} ended")
    cuts = quantiles(done.latencies, n=20, method="inclusive")
    return Seen(done.seconds, cuts[9], cuts[18], peak.mib)


def _measure(peer: Peer, theirs: Engine, ours: Engine, args: argparse.Namespace) -> None:
    for load, lengths in loads(args.requests, args.steps).items():
        about = {"peer": peer.label, "load": load, "batch": args.batch,
                 "requests": args.requests, "dtype": args.dtype, "steps": args.steps}  # fmt: skip
        pairs = paired(
            lambda: seen(theirs, lengths, SAMPLING),  # noqa: B023 - called at once
            lambda: seen(ours, lengths, peer.sampling),  # noqa: B023
            args.rounds,
            REST_S,
        )
        report("peers", about, "throughput over it", [(a.seconds, b.seconds) for a, b in pairs])
        report("peers", about, "latency p50 over its", [(b.p50, a.p50) for a, b in pairs])
        report("peers", about, "latency p95 over its", [(b.p95, a.p95) for a, b in pairs])
        its, mib = (max(run.mib for run in side) for side in zip(*pairs, strict=True))
        append("peers", about, "peak memory", "MiB", [mib], its=round(its, 1))
        print(f"{'peers':<22} peak memory, MiB: {mib:.0f} over its {its:.0f}", flush=True)


def bench(names: Sequence[str], args: argparse.Namespace) -> None:
    """Rows of peers, beside one engine of ours, or one server of ours where they are servers."""
    model, ours = str(smollm2_path()), dict[str, Engine]()
    with ExitStack() as running:
        for peer in (peer for name in names for peer in peers_of(name, args)):
            kind = "http" if peer.kind == "http" else "sottovoce"
            if kind not in ours:
                options = _http(args, "sottovoce") if kind == "http" else _vllm(args)
                ours[kind] = running.enter_context(closing(Engine(kind, model, **options)))
            its = str(smollm2_gguf()) if peer.is_gguf else model
            with closing(Engine(peer.kind, its, **peer.options)) as theirs:
                _measure(peer, theirs, ours[kind], args)


def main(argv: list[str] | None = None) -> None:
    """Measure the peers and sweep the axes that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", choices=[*PEERS, *sweep.AXES, []])
    add("--rounds", type=int, default=5)
    add("--batch", type=int, default=16)
    add("--requests", type=int, default=32, help="at least 2")
    add("--steps", type=int, default=64, help="at least 2")
    add("--values", type=int, nargs="+", help="of a single axis")
    add("--dtype", choices=["bfloat16", "float32"], default=serving_dtype())
    args = parser.parse_args(argv)
    if min(args.requests, args.steps) < 2:
        parser.error("--requests and --steps must be at least 2")
    names = args.names or [*PEERS, *sweep.AXES]
    bench([name for name in names if name in PEERS], args)
    for axis in (name for name in names if name in sweep.AXES):
        sweep.bench(axis, args.values, args.dtype, args.steps, args.rounds)


if __name__ == "__main__":
    main()
