"""`make bench-check`: ends with 1 if a ratio is worse than its bar."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from sottovoce_server.smollm2 import smollm2_path

from ..loads import serving_dtype
from ..pairing import ratios
from ..rows import append, percentiles, provenance
from .cases import CASES, Bench
from .rule import MIN_PAIRS, bar_of, judge, read_bars, write_bars


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-check", description=__doc__)
    add = parser.add_argument
    add("--case", nargs="+", choices=list(CASES), default=list(CASES))
    add("--rounds", type=int, default=8, help=f"pairs of each case, at least {MIN_PAIRS}")
    add("--concurrent", type=int, default=8)
    add("--steps", type=int, default=24)
    add("--set", action="store_true", help="make what is measured the bars, with its provenance")
    add("--publish", action="store_true", help="append a row of each case to benchmarks/results")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure every case, and compare it with its bar, or make it one."""
    args = _parser().parse_args(argv)
    if args.rounds < MIN_PAIRS:
        sys.exit(f"benchmarks.check: --rounds must be at least {MIN_PAIRS}, not {args.rounds}")
    bars, dtype = read_bars(), serving_dtype()
    failed = []
    with closing(Bench(str(smollm2_path()), dtype, args.concurrent, args.steps)) as bench:
        for name in args.case:
            values = ratios(bench.measure(CASES[name], args.rounds))
            p = percentiles(values)
            about = {"concurrent": args.concurrent, "steps": args.steps, "dtype": dtype}
            if args.set:
                seen = {"pairs": args.rounds, **about, **p, **provenance()}
                bars[name] = bar_of(bars[name].better, values, seen)
            verdict = judge(bars[name], values)
            failed += [name] if verdict == "worse" else []
            if args.publish:
                bar = {"bar": bars[name].bar, "better": bars[name].better, "verdict": verdict}
                append("check", about, name, "ratio", values, **bar)
            side = "at least" if bars[name].better == "higher" else "at most"
            print(
                f"{name:<52} {p['p50']:.3f} [{p['p20']:.3f}, {p['p80']:.3f}]"
                f"  {side} {bars[name].bar:.3f}: {verdict}",
                flush=True,
            )
    if args.set:
        write_bars(bars)
    if failed:
        sys.exit(f"benchmarks.check: worse than its bar: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
