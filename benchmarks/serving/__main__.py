"""`make bench-serving`: load the server with AIPerf and `vllm bench serve`, and score its answers."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sottovoce_server.demo import running_server
from sottovoce_server.models import MODELS
from sottovoce_training.families import FAMILIES

from ..quality.arms import SAMPLINGS, parse_arm
from ..quality.task import TaskError
from ..quality.tasks import load_task
from . import aiperf
from .profiles import PROFILES
from .report import COLUMNS, Report, cells
from .session import TOOLS, Run, Session, runs
from .summary import Summary, summarize
from .workload import Answered, Asking

# A tool that refuses the load or fails, or an export that is not there or not as expected.
_FAILED = (RuntimeError, ValueError, OSError, KeyError)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    profiles = "; ".join(f"{name}: {p.about}" for name, p in PROFILES.items())
    add("--profile", nargs="+", choices=[*PROFILES, "all"], default=["closed"], help=profiles)
    add("--levels", type=float, nargs="+", help="requests in flight, or per second; default: "
        + "; ".join(f"{name} {p.levels}" for name, p in PROFILES.items()))  # fmt: skip
    add("--mode", nargs="+", default=["explicit", "latent", "routed@0.7", "shortcuts"],
        help="as the arms of benchmarks.quality")  # fmt: skip
    add("--mix", choices=["apart", "together", "both"], default="both",
        help="one mode at a time, all in one load (AIPerf only), or both")  # fmt: skip
    add("--tool", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    add("--rounds", type=int, default=1, help="how often all levels are run; answers are joined")
    add("--requests", type=int, default=96, help="requests of each mode in a run")
    add("--task", nargs="+", default=[f"gym:{name}" for name in FAMILIES],
        help="as in benchmarks.quality; default: the tiny reasoner's families")  # fmt: skip
    add("--sampling", choices=list(SAMPLINGS), default="greedy")
    add("--max-tokens", type=int, default=512)
    add("--latency-target-s", type=float, default=2.0, help="for goodput")
    add("--model", default="tiny-reasoner", help="what is served, and its name in requests")
    add("--url", help="a running server, such as http://localhost:8000; default: start one")
    add("--serve-flags", default="", metavar="'FLAGS'", help="of a server that is started here")
    add("--tokenizer", type=Path, help="its directory; known for models with a short name")
    add("--out", type=Path, help="folder for reports and raw exports; default: in .cache/serving")
    add("--publish", action="store_true", help="append rows to benchmarks/results after each run")
    return parser


def _tokenizer(args: argparse.Namespace) -> Path:
    if args.tokenizer is None and args.model not in MODELS:
        raise ValueError(f"--tokenizer is needed for {args.model}")
    found: Path = args.tokenizer or MODELS[args.model].path()
    return found.resolve()


def _session(args: argparse.Namespace, base: str) -> Session:
    each = -(-args.requests // len(args.task))
    tasks = [load_task(spec, each) for spec in args.task]
    asking = Asking(args.model, SAMPLINGS[args.sampling], args.max_tokens)
    folder = args.out or Path(".cache/serving") / time.strftime("%Y-%m-%dT%H-%M-%S")
    return Session(base, _tokenizer(args), asking, tasks, args.requests, folder)


def plan(args: argparse.Namespace) -> list[Run]:
    """All runs, in order.

    Raises:
        ValueError: if arguments do not go together, or a tool is missing.
    """
    profiles = PROFILES if "all" in args.profile else args.profile
    if args.levels and len(profiles) > 1:
        raise ValueError("--levels needs a single --profile, for their units differ")
    if aiperf.NAME in args.tool and not aiperf.BINARY.exists():
        raise ValueError(f"no {aiperf.BINARY}: `make bench-serving` installs it, or --tool vllm")
    arms = [parse_arm(name) for name in args.mode]
    found: list[Run] = []
    for profile in profiles:
        loads = PROFILES[profile].loads(args.levels)
        if any((load.concurrency or 0) > args.requests for load in loads):
            raise ValueError("--requests must be as many as are in flight, at least")
        found += runs(profile, loads, args.tool, arms, args.mix, args.rounds)
    return found


def _parameters(args: argparse.Namespace) -> dict[str, object]:
    names = ("model", "mode", "mix", "task", "requests", "rounds", "sampling", "max_tokens",
             "latency_target_s", "serve_flags")  # fmt: skip
    server = "running" if args.url else "started for the session"
    return {
        **{name: getattr(args, name) for name in names},
        "server": server,
        "cores": os.cpu_count(),
    }


def _server(args: argparse.Namespace) -> AbstractContextManager[str]:
    if args.url:
        return nullcontext(args.url.rstrip("/").removesuffix("/v1"))
    return running_server(args.model, *shlex.split(args.serve_flags))


def _show(summaries: Sequence[Summary]) -> None:
    for s in summaries:
        shown = zip(COLUMNS, cells(s), strict=True)
        print("  " + "; ".join(f"{name} {cell}" for name, cell in shown), flush=True)


def _measure(session: Session, todo: Sequence[Run], report: Report, is_published: bool) -> None:
    """Do all runs; one that fails is reported, and the others follow."""
    session.folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(todo)} runs; report: {session.folder / 'report.html'}", flush=True)
    session.warm_up(
        [parse_arm(name) for name in dict.fromkeys(a.name for r in todo for a in r.arms)]
    )
    rounds: dict[str, list[list[Answered]]] = defaultdict(list)
    for i, run in enumerate(todo, start=1):
        print(f"[{i}/{len(todo)}] {run.folder}", flush=True)
        try:
            answers, version = session.measure(run)
        except _FAILED as error:
            report.failures[run.folder] = f"{type(error).__name__}: {error}"
            print(f"  failed: {error}", flush=True)
        else:
            rounds[run.name].append(answers)
            target_s = report.parameters["latency_target_s"]
            summaries = summarize(run, rounds[run.name], target_s)
            report.add(run, version, summaries)
            _show(summaries)
        report.save(session.folder)
        if is_published and run.name not in {later.name for later in todo[i:]}:
            report.publish(run)
    report.is_finished = True
    report.save(session.folder)


def main(argv: list[str] | None = None) -> None:
    """Serve or find the server, do all runs, report; ends with 1 if an argument is bad or a run failed."""
    args = parser().parse_args(argv)
    report = Report(_parameters(args))
    try:
        todo = plan(args)
        _session(args, "")  # a wrong task or model is met before a server starts
        with _server(args) as base:
            _measure(_session(args, base), todo, report, args.publish)
    except (TaskError, ValueError, RuntimeError) as error:
        sys.exit(f"benchmarks.serving: {error}")
    if report.failures:
        sys.exit(f"benchmarks.serving: of {len(todo)} runs failed {', '.join(report.failures)}")


if __name__ == "__main__":
    main()
