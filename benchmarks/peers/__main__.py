"""`make bench-peers`: throughput over peers on one model and one load, and curves of a step's cost."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sottovoce_server.smollm2 import smollm2_gguf, smollm2_path

from ..engine import Engine
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING, serving_dtype
from ..pairing import REST_S, paired, report
from . import sweep
from .loop import Loop

SWI = {
    **SAMPLING,
    "extra_args": {"reasoning_mode": "routed", "routing": {"policy": "swi", "mix": "full"}},
}
# What ours is asked, by what the peer does.
_OURS: dict[str, Mapping[str, Any]] = {"explicit": SAMPLING, "soft": LATENT, "swi": SWI}
ENGINES = ("v1", "mrv2", "llama.cpp")
LOOPS = ("explicit", "soft", "swi")
PEERS = (*ENGINES, *(f"transformers-{name}" for name in LOOPS))
Run = Callable[[Sequence[int]], float]  # seconds of requests of these lengths


def loads(requests: int, steps: int) -> dict[str, list[int]]:
    """Equal lengths, and lengths from a sixteenth to four times that, uniform in their logarithm."""
    rng = random.Random(0)
    spread = [max(int(steps / 16 * 64 ** rng.random()), 2) for _ in range(requests)]
    return {"equal lengths": [steps] * requests, "spread lengths": spread}


def _measure(
    peer: str, run: Run, ours: Engine, sampling: Mapping[str, Any], args: argparse.Namespace
) -> None:
    about = {"peer": peer, "batch": args.batch, "requests": args.requests, "dtype": args.dtype}
    for name, lengths in loads(args.requests, args.steps).items():
        pairs = paired(
            lambda: run(lengths),  # noqa: B023 - called at once
            lambda: ours.run(PROMPT, lengths, sampling),  # noqa: B023
            args.rounds,
            REST_S,
        )
        report("peers", {**about, "steps": args.steps}, f"throughput over it, {name}", pairs)


def _bench_engine(kind: str, ours: Engine, args: argparse.Namespace) -> None:
    options: dict[str, Any] = {**OPTIONS, "max_num_seqs": args.batch, "dtype": args.dtype}
    model = str(smollm2_path())
    if kind == "llama.cpp":
        model, options["num_cached_tokens"] = str(smollm2_gguf()), args.batch * 2048
    peer = Engine(kind, model, **options)
    about = f"{kind}, Q4_1" if kind == "llama.cpp" else kind
    _measure(about, lambda lengths: peer.run(PROMPT, lengths, SAMPLING), ours, SAMPLING, args)
    peer.close()


def _bench_loop(policy: str, ours: Engine, args: argparse.Namespace) -> None:
    loop = Loop(str(smollm2_path()), args.dtype, policy)
    for refills in (False, True):
        peer = f"transformers, {policy}, {'refilled' if refills else 'static'} batches"
        _measure(
            peer,
            lambda lengths: loop.run(PROMPT, lengths, args.batch, refills),  # noqa: B023
            ours,
            _OURS[policy],
            args,
        )


def main(argv: list[str] | None = None) -> None:
    """Measure the peers and sweep the axes that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", choices=[*PEERS, *sweep.AXES, []])
    add("--rounds", type=int, default=5)
    add("--batch", type=int, default=16)
    add("--requests", type=int, default=32)
    add("--steps", type=int, default=64)
    add("--values", type=int, nargs="+", help="of a single axis")
    add("--dtype", choices=["bfloat16", "float32"], default=serving_dtype())
    args = parser.parse_args(argv)
    names = args.names or [*PEERS, *sweep.AXES]
    peers = [name for name in names if name in PEERS]
    if peers:
        options = {**OPTIONS, "max_num_seqs": args.batch}
        ours = Engine("sottovoce", str(smollm2_path()), dtype=args.dtype, **options)
        for name in peers:
            bench = _bench_engine if name in ENGINES else _bench_loop
            bench(name.removeprefix("transformers-"), ours, args)
        ours.close()
    for axis in (name for name in names if name in sweep.AXES):
        sweep.bench(axis, args.values, args.dtype, args.steps, args.rounds)


if __name__ == "__main__":
    main()
