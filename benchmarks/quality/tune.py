"""`sottovoce tune`: choose a model's threshold, and Cold Stop, on a few problems; write its defaults.

ThinkRouter (2602.11683) picks its threshold from 0.4 to 0.9 on ten held-out samples of each data set.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from sottovoce_server.defaults import FILE_NAME

from .arms import SAMPLINGS, THRESHOLDS, parse_arm
from .outcome import Outcome
from .study import Settings, Study
from .task import TaskError


@dataclass(frozen=True)
class Candidate:
    """What one setting came to on the validation problems."""

    routing: dict[str, Any]
    outcome: Outcome

    @property
    def rank(self) -> tuple[float, float]:
        """Accuracy first; among equals, fewer thinking steps."""
        return self.outcome.pass_at_1().value, -(self.outcome.thinking or 0.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sottovoce tune", description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000/v1", help="a server that runs")
    parser.add_argument("--model", help="its name there; default: the first that the server lists")
    parser.add_argument("--task", nargs="+", required=True, help="jsonl:FILE, gsm8k:FILE, gym:NAME "
                        "and so on, as in benchmarks/README.md; never what you report on")  # fmt: skip
    parser.add_argument("--count", type=int, default=10, help="problems of each task")
    parser.add_argument("--samples", type=int, default=1, help="samples of each problem")
    parser.add_argument("--threshold", type=float, nargs="+", default=list(THRESHOLDS))
    parser.add_argument("--cold-stop", type=int, nargs="+", default=[256], help="steps; 0: off")
    parser.add_argument("--sampling", choices=list(SAMPLINGS), default="t0.6")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--api-key", default="none")
    parser.add_argument(
        "--study", type=Path, help="folder to keep the samples in, and to resume from"
    )
    parser.add_argument("--write", type=Path, help=f"default: {FILE_NAME} in the model's directory")
    return parser


def _served(url: str, api_key: str, name: str | None) -> dict[str, Any]:
    """The server's own entry of a model."""
    try:
        response = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {api_key}"})
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise ValueError(f"--url {url}: {error}; start `sottovoce serve MODEL` first") from error
    cards: list[dict[str, Any]] = response.json()["data"]
    found = [card for card in cards if name in (None, card["id"])]
    if not found:
        raise ValueError(f"--model {name}: the server has {[card['id'] for card in cards]}")
    return found[0]


def _target(args: argparse.Namespace, card: dict[str, Any]) -> Path:
    """Where the defaults go: beside the weights, if they lie on this machine."""
    if args.write:
        return Path(args.write)
    root = Path(card.get("root") or "")
    if not root.is_dir():
        raise ValueError(f"--write: {card.get('root')} is no directory here; say where to write")
    return root / FILE_NAME


def choose(candidates: list[Candidate]) -> Candidate:
    """The most accurate; among equals the shortest, then the one named first."""
    return max(candidates, key=lambda c: c.rank)


def table(candidates: list[Candidate]) -> str:
    """Accuracy with its 95 % interval and length of every candidate, in Markdown."""
    lines = ["| candidate | pass@1 [95 %] | thinking steps | soft |", "|---|---|---|---|"]
    for c in candidates:
        o, e = c.outcome, c.outcome.pass_at_1()
        lines.append(
            f"| `{o.arm}` | {e.value:.1%} [{e.low:.1%}, {e.high:.1%}] "
            f"| {o.thinking or 0.0:.1f} | {o.soft_share or 0.0:.0%} |"
        )
    return "\n".join(lines)


def _caution(candidates: list[Candidate], best: Candidate) -> str:
    """Which candidates these few problems cannot tell from the chosen one."""
    low = best.outcome.pass_at_1().low
    rivals = [c for c in candidates if c is not best and c.outcome.pass_at_1().high >= low]
    if not rivals:
        return ""
    count = len(best.outcome.correct)
    return f"{len(rivals)} others lie within its interval: {count} problems do not tell them apart"


def _measure(args: argparse.Namespace, model: str) -> list[Candidate]:
    settings = Settings(
        url=args.url, model=model, tasks=tuple(args.task), count=args.count, split="validation",
        max_tokens=args.max_tokens, concurrency=args.concurrency,
    )  # fmt: skip
    found = []
    # Samples that nobody asked to keep must not answer for the model's next version.
    with tempfile.TemporaryDirectory() as scratch:
        study = Study(args.study or Path(scratch), settings)
        for threshold, steps in itertools.product(args.threshold, args.cold_stop):
            name = f"routed@{threshold:g}+cold@{steps}"
            asyncio.run(study.run(name, args.sampling, args.samples, args.api_key))
            routing = {k: v for k, v in parse_arm(name).body["routing"].items() if k != "policy"}
            found.append(Candidate(routing, study.outcome(name, args.sampling)))
    return found


def _tune(args: argparse.Namespace) -> None:
    card = _served(args.url, args.api_key, args.model)
    target = _target(args, card)
    candidates = _measure(args, card["id"])
    print(table(candidates))
    if failed := sum(c.outcome.num_errors for c in candidates):
        raise ValueError(
            f"{failed} requests failed, nothing is written; try again (--study resumes)"
        )
    best = choose(candidates)
    content = {
        "routing": best.routing,
        "tuned": {
            "model": card["id"], "tasks": args.task, "problems": len(best.outcome.correct),
            "samples": args.samples, "sampling": args.sampling,
            "date": datetime.now(UTC).date().isoformat(),
            "candidates": [
                {**c.routing, "pass@1": c.rank[0], "thinking_steps": -c.rank[1]}
                for c in candidates
            ],
        },
    }  # fmt: skip
    target.write_text(json.dumps(content, indent=1) + "\n")
    print(f"chose {best.routing}, written to {target}. {_caution(candidates, best)}".rstrip())
    print("`sottovoce serve` reads it at its next start.")


def main(argv: list[str] | None = None) -> None:
    """Run the command; a bad argument ends it with its message."""
    args = _parser().parse_args(argv)
    try:
        _tune(args)
    except (TaskError, ValueError) as error:
        sys.exit(f"sottovoce tune: {error}")
