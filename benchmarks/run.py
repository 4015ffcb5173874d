"""`make bench`: the ratios that matter, measured in paired, interleaved runs on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sottovoce_server.smollm2 import smollm2_path

from . import shapes
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


@dataclass(frozen=True)
class Setup:
    """What is measured, on what, and how often."""

    model: str
    dtype: str
    rounds: int
    steps: int
    sizes: Sequence[int] = ()
    prompt: str = PROMPT
    options: Mapping[str, Any] = field(default_factory=lambda: OPTIONS)
    sampling: Sampling = field(default_factory=dict)  # of every request, besides its own
    about: Mapping[str, Any] = field(default_factory=dict)  # of a model that is not SmolLM2

    def engine(self, kind: str) -> Engine:
        """A new engine of that kind."""
        return Engine(kind, self.model, **{**self.options, "dtype": self.dtype})

    def run(self, engine: Engine, size: int, sampling: Sampling) -> float:
        """Seconds of a batch of that size."""
        return engine.run(self.prompt, [self.steps] * size, {**sampling, **self.sampling})

    def parameters(self, size: int) -> dict[str, Any]:
        """What a row says of a batch of that size."""
        return {"concurrent": size, "dtype": self.dtype, "steps": self.steps, **self.about}


def bench_explicit(setup: Setup) -> None:
    """Throughput of `explicit` over that of stock vLLM's V1 runner."""
    ours, stock = setup.engine("sottovoce"), setup.engine("v1")
    for name, sampling in (("greedy", GREEDY), ("sampled", SAMPLING)):
        for size in setup.sizes:
            pairs = paired(
                lambda: setup.run(stock, size, sampling),  # noqa: B023 - called at once
                lambda: setup.run(ours, size, sampling),  # noqa: B023
                setup.rounds,
            )
            about = {"sampling": name, **setup.parameters(size)}
            report("explicit_vs_v1", about, "throughput", pairs)
    ours.close()
    stock.close()


def bench_steps(cases: Mapping[str, tuple[Sampling, Sampling]], setup: Setup) -> None:
    """Time of one kind of step over that of another, for each case."""
    engine = setup.engine("sottovoce")
    for size in setup.sizes:
        for name, (top, bottom) in cases.items():
            pairs = paired(
                lambda: setup.run(engine, size, top),  # noqa: B023 - called at once
                lambda: setup.run(engine, size, bottom),  # noqa: B023
                setup.rounds,
                rest_s=0.0,
            )
            report("step", setup.parameters(size), f"step time, {name}", pairs)
    engine.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", choices=[*NAMES, []])
    add("--rounds", type=int, default=5)
    add("--steps", type=int, default=128)
    add("--dtype", choices=["bfloat16", "float32"], default=serving_dtype())
    add("--sizes", type=int, nargs="+", help="default: 1 8 32 64, of steps at most 32")
    add("--shape", choices=list(shapes.SHAPES), help="random weights instead of SmolLM2, on a GPU")
    add("--engine-args", type=json.loads, default={}, metavar="JSON", help="of vLLM, beside ours")
    return parser


@contextmanager
def _setup(args: argparse.Namespace) -> Iterator[Setup]:
    """SmolLM2, or random weights of a published shape, whose ids hardly have texts."""
    common = {"dtype": args.dtype, "rounds": args.rounds, "steps": args.steps}
    options = {**OPTIONS, **args.engine_args}
    if not args.shape:
        yield Setup(str(smollm2_path()), options=options, **common)
        return
    with shapes.model_of(args.shape) as model:
        yield Setup(
            model, options={**options, **shapes.OPTIONS}, prompt=shapes.PROMPT,
            sampling={"detokenize": False}, about={"shape": args.shape}, **common,
        )  # fmt: skip


def main() -> None:
    """Run all benchmarks, or those named."""
    args = _parser().parse_args()
    names = args.names or NAMES
    print("ratio: median [p20, p80] of paired interleaved runs", file=sys.stderr)
    with _setup(args) as setup:
        if "explicit" in names:
            bench_explicit(replace(setup, sizes=args.sizes or (1, 8, 32, 64)))
        for name, cases in (("steps", STEPS), ("budget", BUDGET)):
            if name in names:
                bench_steps(cases, replace(setup, sizes=args.sizes or (1, 8, 32)))


if __name__ == "__main__":
    main()
