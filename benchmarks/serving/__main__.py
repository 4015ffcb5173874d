"""`make bench-serving`: load the server with AIPerf and `vllm bench serve`, and score its answers."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
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
from .workload import Asking


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    profiles = "; ".join(f"{name}: {p.about}" for name, p in PROFILES.items())
    add("--profile", nargs="+", choices=list(PROFILES), default=["closed"], help=profiles)
    add("--levels", type=float, nargs="+", help="requests in flight, or per second; default: "
        + "; ".join(f"{name} {p.levels}" for name, p in PROFILES.items()))  # fmt: skip
    add("--mode", nargs="+", default=["explicit", "latent", "routed@0.7"],
        help="as the arms of benchmarks.quality")  # fmt: skip
    add("--mix", choices=["apart", "together", "both"], default="both",
        help="one mode at a time, all in one load (AIPerf only), or both")  # fmt: skip
    add("--tool", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    add("--requests", type=int, default=48, help="requests of each mode in a run")
    add("--task", nargs="+", default=[f"gym:{name}" for name in FAMILIES],
        help="as in benchmarks.quality; default: the tiny reasoner's families")  # fmt: skip
    add("--sampling", choices=list(SAMPLINGS), default="greedy")
    add("--max-tokens", type=int, default=512)
    add("--latency-target-s", type=float, default=10.0, help="for goodput")
    add("--model", default="tiny-reasoner", help="what is served, and its name in requests")
    add("--url", help="a running server, such as http://localhost:8000; default: start one")
    add("--serve-flags", default="", metavar="'FLAGS'", help="of a server that is started here")
    add("--tokenizer", type=Path, help="its directory; known for models with a short name")
    add("--out", type=Path, help="folder for reports and raw exports; default: in .cache/serving")
    add("--publish", action="store_true", help="append a row per profile to benchmarks/results")
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
    return Session(
        base, _tokenizer(args), asking, tasks, args.requests, args.latency_target_s, folder
    )


def _plan(args: argparse.Namespace) -> list[Run]:
    if args.levels and len(args.profile) > 1:
        raise ValueError("--levels needs a single --profile, for their units differ")
    if aiperf.NAME in args.tool and not aiperf.BINARY.exists():
        raise ValueError(f"no {aiperf.BINARY}: `make bench-serving` installs it, or --tool vllm")
    arms = [parse_arm(name) for name in args.mode]
    found: list[Run] = []
    for profile in args.profile:
        loads = PROFILES[profile].loads(args.levels)
        if any((load.concurrency or 0) > args.requests for load in loads):
            raise ValueError("--requests must be as many as are in flight, at least")
        found += runs(profile, loads, args.tool, arms, args.mix)
    return found


def _parameters(args: argparse.Namespace) -> dict[str, object]:
    names = ("model", "mode", "mix", "task", "requests", "sampling", "max_tokens",
             "latency_target_s", "serve_flags")  # fmt: skip
    server = "running" if args.url else "started for the session"
    return {**{name: getattr(args, name) for name in names}, "server": server}


def _server(args: argparse.Namespace) -> AbstractContextManager[str]:
    if args.url:
        return nullcontext(args.url.rstrip("/").removesuffix("/v1"))
    return running_server(args.model, *shlex.split(args.serve_flags))


def _measure(session: Session, plan: list[Run], report: Report) -> None:
    session.folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(plan)} runs; report: {session.folder / 'report.html'}", flush=True)
    session.warm_up(
        [parse_arm(name) for name in dict.fromkeys(a.name for r in plan for a in r.arms)]
    )
    for i, run in enumerate(plan, start=1):
        print(f"[{i}/{len(plan)}] {run.name}", flush=True)
        summaries, version = session.measure(run)
        report.add(run.profile, run.tool, version, summaries)
        report.save(session.folder)
        for s in summaries:
            shown = zip(COLUMNS, cells(s), strict=True)
            print("  " + "; ".join(f"{name} {cell}" for name, cell in shown), flush=True)
    report.is_finished = True
    report.save(session.folder)


def main(argv: list[str] | None = None) -> None:
    """Serve or find the server, do all runs, report; a bad argument or a failed tool ends it."""
    args = _parser().parse_args(argv)
    report = Report(_parameters(args))
    try:
        plan = _plan(args)
        _session(args, "")  # a wrong task or model is met before a server starts
        with _server(args) as base:
            _measure(_session(args, base), plan, report)
    except (TaskError, ValueError, RuntimeError) as error:
        sys.exit(f"benchmarks.serving: {error}")
    if args.publish:
        report.publish()


if __name__ == "__main__":
    main()
