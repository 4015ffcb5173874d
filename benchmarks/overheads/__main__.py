"""`make bench-overheads`: what soft thinking costs besides the step, a part at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sottovoce_server.smollm2 import smollm2_path

from ..loads import serving_dtype
from . import books, http, ledger, profile, replay, startup


def _ledger(args: argparse.Namespace) -> None:
    ledger.bench(args.requests, args.positions, args.rounds or 7)


def _replay(args: argparse.Namespace) -> None:
    model, dtype, rounds = str(smollm2_path()), serving_dtype(), args.rounds or 4
    replay.bench_op(args.positions, rounds)
    replay.bench_share(model, dtype, rounds)
    replay.bench_engine(model, dtype, rounds)


def _profile(args: argparse.Namespace) -> None:
    model, dtype = str(smollm2_path()), serving_dtype()
    profile.bench(model, dtype, args.concurrent, args.steps, args.seconds)


def _message(args: argparse.Namespace) -> None:
    from . import message  # imports vLLM

    message.bench(256, args.rounds or 7)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "ledger": _ledger,
    "replay": _replay,
    "books": lambda args: books.bench(args.rounds or 7),
    "message": _message,
    "http": lambda args: http.bench(args.concurrent, args.steps, args.rounds or 5),
    "profile": _profile,
    "startup": lambda args: startup.bench(args.model, args.rounds or 7),
}


def main(argv: list[str] | None = None) -> None:
    """Do what is named, or all."""
    parser = argparse.ArgumentParser(prog="make bench-overheads", description=__doc__)
    add = parser.add_argument
    add("parts", nargs="*", choices=[*PARTS, []])
    add("--rounds", type=int, help="7; of replay 4, of http 5")
    add("--model", default="tiny-reasoner", help="of startup")
    add("--requests", type=int, default=64, help="of ledger")
    add("--positions", type=int, default=32768, help="of ledger and replay")
    add("--concurrent", type=int, default=8, help="of http and profile")
    add("--steps", type=int, default=96, help="of http and profile")
    add("--seconds", type=int, default=20, help="that py-spy watches, of profile")
    args = parser.parse_args(argv)
    for part in args.parts or PARTS:
        PARTS[part](args)


if __name__ == "__main__":
    main()
