"""`python -m benchmarks.quality`: ask an endpoint a set of problems in several modes, then compare them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from sottovoce_training.families import FAMILIES

from .arms import SAMPLINGS, SHORTCUT_ARMS, matched_arm, parse_arm
from .report import write_report
from .study import Settings, Study
from .task import TaskError

_ALL = "gym:all"  # every family that the tiny reasoner learns
_ALL_SHORTCUTS = "shortcuts:all"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="ask; a second call asks only what is missing")
    run.add_argument("--url", default="http://localhost:8000/v1")
    run.add_argument("--model", required=True)
    run.add_argument("--task", nargs="+", default=[_ALL], help="gym:NAME, gym:NAME:{JSON}, "
                     "gym:all, or jsonl|gsm8k|math500|aime|gpqa|humaneval|mbpp:FILE")  # fmt: skip
    run.add_argument("--arm", nargs="+", default=["explicit"], help="explicit, latent, plain, "
                     "stochastic, moi, selar, swi, swi_full, "
                     "routed@0.7, adaptive_greedy@0.7, random@0.5, random@routed@0.7 (random, "
                     "with the soft share that routed@0.7 had), shortcuts, shortcuts@2, "
                     "shortcuts@0+depth@0.5, shortcuts@2+depth@off, or shortcuts:all, a table "
                     "of them")  # fmt: skip
    run.add_argument("--sampling", choices=list(SAMPLINGS), default="greedy")
    run.add_argument("--samples", type=int, default=1, help="samples of each problem")
    run.add_argument("--count", type=int, default=250, help="problems of each task")
    run.add_argument("--split", default="test", help="seeds of trained families")
    run.add_argument("--max-tokens", type=int, default=512)
    run.add_argument("--concurrency", type=int, default=32)
    run.add_argument("--body", type=json.loads, default={}, metavar="JSON",
                     help="fields of every request, such as a thinking_token_budget")  # fmt: skip
    run.add_argument("--api-key", default="none")
    run.add_argument("--out", type=Path, required=True, help="folder of the study")
    report = commands.add_parser("report", help="score and compare what a study holds")
    report.add_argument("out", type=Path)
    report.add_argument("--latency-target-s", type=float, default=10.0)
    report.add_argument("--publish", action="store_true", help="append rows to benchmarks/results")
    return parser


def _tasks(specs: list[str]) -> tuple[str, ...]:
    families = [f"gym:{name}" for name in FAMILIES]
    return tuple(name for spec in specs for name in (families if spec == _ALL else [spec]))


def _arms(names: list[str]) -> list[str]:
    found = [a for name in names for a in (SHORTCUT_ARMS if name == _ALL_SHORTCUTS else [name])]
    for name in found:
        parse_arm(matched_arm(name) or name)
    return found


def _run(args: argparse.Namespace) -> None:
    arms = _arms(args.arm)
    settings = Settings(
        url=args.url, model=args.model, tasks=_tasks(args.task), count=args.count,
        split=args.split, max_tokens=args.max_tokens, concurrency=args.concurrency, body=args.body,
    )  # fmt: skip
    study = Study(args.out, settings)
    for name in arms:
        asyncio.run(study.run(name, args.sampling, args.samples, args.api_key))
        outcome = study.outcome(name, args.sampling)
        steps = "" if outcome.thinking is None else f", {outcome.thinking:.1f} thinking steps"
        errors = f", {outcome.num_errors} ERRORS" if outcome.num_errors else ""
        print(f"{name}: {outcome.pass_at_1().value:.1%}{steps}{errors}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run a command; a bad argument ends it with its message."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "run":
            _run(args)
        else:
            print(write_report(Study(args.out), args.latency_target_s, args.publish))
    except (TaskError, ValueError) as error:
        sys.exit(f"benchmarks.quality: {error}")


if __name__ == "__main__":
    main()
