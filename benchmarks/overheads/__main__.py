"""`make bench-overheads`: what soft thinking costs besides the step, a part at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sottovoce_server.smollm2 import smollm2_path

from ..loads import serving_dtype
from . import books, http, ledger, replay, startup


def _ledger(args: argparse.Namespace) -> None:
    ledger.bench(args.requests, args.positions, args.rounds)


def _replay(args: argparse.Namespace) -> None:
    replay.bench_op(args.positions, args.rounds)
    replay.bench_engine(str(smollm2_path()), serving_dtype(), args.rounds)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "ledger": _ledger,
    "replay": _replay,
    "books": lambda args: books.bench(args.rounds),
    "http": lambda args: http.bench(args.model, args.concurrent, args.steps, args.rounds),
    "startup": lambda args: startup.bench(args.model, args.rounds),
}


def main(argv: list[str] | None = None) -> None:
    """Do what is named, or all."""
    parser = argparse.ArgumentParser(prog="make bench-overheads", description=__doc__)
    add = parser.add_argument
    add("parts", nargs="*", choices=[*PARTS, []])
    add("--rounds", type=int, default=7)
    add("--model", default="tiny-reasoner", help="of http and startup")
    add("--requests", type=int, default=64, help="of ledger")
    add("--positions", type=int, default=32768, help="of ledger and replay")
    add("--concurrent", type=int, default=8, help="of http")
    add("--steps", type=int, default=256, help="of http")
    args = parser.parse_args(argv)
    for part in args.parts or PARTS:
        PARTS[part](args)


if __name__ == "__main__":
    main()
