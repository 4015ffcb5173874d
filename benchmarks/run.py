"""`make bench`: the ratios that matter, measured in paired, interleaved runs on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from sottovoce_server.smollm2 import smollm2_path

from .engine import Engine
from .loads import (
    GREEDY,
    LATENT,
    OPTIONS,
    PROMPT,
    ROUTED,
    SAMPLING,
    TRACED,
    budgeted,
    serving_dtype,
)
from .pairing import paired, report

NAMES = ["explicit", "steps", "budget"]
Sampling = Mapping[str, Any]
# The one side of a ratio, and the other.
STEPS: dict[str, tuple[Sampling, Sampling]] = {
    "latent over explicit": (LATENT, SAMPLING),
    "routed over explicit": (ROUTED, SAMPLING),
    "latent with trace over latent": (TRACED, LATENT),
}
BUDGET: dict[str, tuple[Sampling, Sampling]] = {
    "explicit with a thinking budget over without, greedy": (budgeted(GREEDY), GREEDY),
    "explicit with a thinking budget over without, sampled": (budgeted(SAMPLING), SAMPLING),
}


def bench_explicit(model: str, dtype: str, rounds: int, steps: int, sizes: list[int]) -> None:
    """Throughput of `explicit` over that of stock vLLM's V1 runner."""
    ours = Engine("sottovoce", model, dtype=dtype, **OPTIONS)
    stock = Engine("v1", model, dtype=dtype, **OPTIONS)
    for name, sampling in (("greedy", GREEDY), ("sampled", SAMPLING)):
        for size in sizes:
            lengths = [steps] * size
            pairs = paired(
                lambda: stock.run(PROMPT, lengths, sampling),  # noqa: B023 - called at once
                lambda: ours.run(PROMPT, lengths, sampling),  # noqa: B023
                rounds,
            )
            parameters = {"concurrent": size, "sampling": name, "dtype": dtype, "steps": steps}
            report("explicit_vs_v1", parameters, "throughput", pairs)
    ours.close()
    stock.close()


def bench_steps(
    cases: Mapping[str, tuple[Sampling, Sampling]],
    model: str, dtype: str, rounds: int, steps: int, sizes: list[int],
) -> None:  # fmt: skip
    """Time of one kind of step over that of another, for each case."""
    engine = Engine("sottovoce", model, dtype=dtype, **OPTIONS)
    for size in sizes:
        lengths = [steps] * size
        for name, (top, bottom) in cases.items():
            pairs = paired(
                lambda: engine.run(PROMPT, lengths, top),  # noqa: B023 - called at once
                lambda: engine.run(PROMPT, lengths, bottom),  # noqa: B023
                rounds,
            )
            parameters = {"concurrent": size, "dtype": dtype, "steps": steps}
            report("step", parameters, f"step time, {name}", pairs)
    engine.close()


def main() -> None:
    """Run all benchmarks, or those named."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default=serving_dtype())
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 32, 64])
    args = parser.parse_args()
    names = args.names or NAMES
    model, dtype = str(smollm2_path()), args.dtype
    print("ratio: median [p20, p80] of paired interleaved runs", file=sys.stderr)
    if "explicit" in names:
        bench_explicit(model, dtype, args.rounds, args.steps, args.sizes)
    for name, cases in (("steps", STEPS), ("budget", BUDGET)):
        if name in names:
            sizes = [size for size in args.sizes if size <= 32]
            bench_steps(cases, model, dtype, args.rounds, args.steps, sizes)


if __name__ == "__main__":
    main()
