"""`sottovoce explain`: the thinking of one request as a table, a row a step."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import SottovoceError
from .settings import SettingError, add_flags, client_of, settings_of
from .thoughts import LATENT, STYLES, UNTRACED, printable
from .wire import Alternative, RoutingSummary, TracedResponse, TraceStep, read_wire

NO_TRACE = "the answer holds no thinking steps; was include_reasoning_trace set, and did it think?"
_NUM_ALTERNATIVES = 5
VECTOR = "(vector)"  # what a latent step writes: its token is a placeholder


def trace_table(trace: Sequence[TraceStep], num_alternatives: int = _NUM_ALTERNATIVES) -> Table:
    """The steps of one choice; at most so many alternatives a step, the heaviest first.

    The last column, in words, is there where a latent step was read.
    """
    table = Table("step", "route", "token", "p_max", "entropy", "alternatives", box=None)
    has_words = any(step.step is not None for step in trace)
    if has_words:
        table.add_column("in words")
    for name in ("step", "p_max", "entropy"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for number, step in enumerate(trace, start=1):
        style = STYLES.get(step.route, UNTRACED)
        table.add_row(
            str(number),
            Text(step.route, style),
            Text(VECTOR if step.route == LATENT else _spelt(step.token), style),
            f"{step.p_max:.3f}",
            f"{step.entropy:.3f}",
            Text(_listed(step.alternatives, num_alternatives)),
            *([Text(_in_words(step))] if has_words else []),
        )
    return table


def _listed(alternatives: Sequence[Alternative], limit: int) -> str:
    heaviest = sorted(alternatives, key=lambda alternative: -alternative.weight)
    shown = [f"{_spelt(a.token)} {a.weight:.2f}" for a in heaviest[:limit]]
    num_more = len(heaviest) - len(shown)
    return "  ".join([*shown, *([f"and {num_more} more"] if num_more else [])])


def _in_words(step: TraceStep) -> str:
    return "" if step.step is None else printable("; ".join(step.step.strip().split("\n")))


def _spelt(token: str) -> str:
    """In quotes, so that white space can be seen."""
    return printable(json.dumps(token, ensure_ascii=False))


def summary(trace: Sequence[TraceStep], routing: RoutingSummary | None) -> str:
    """One line below the table."""
    routes = Counter(step.route for step in trace)
    counts = ", ".join(f"{count} {route}" for route, count in routes.most_common())
    line = f"{len(trace)} steps: {counts}"
    if routing is None:
        return line
    fields = {"mode": routing.mode, "policy": routing.policy, "threshold": routing.threshold}
    named = [f"{name} {value}" for name, value in fields.items() if value is not None]
    return f"{line} ({', '.join(named)})"


def explain(response: TracedResponse, console: Console, num_alternatives: int) -> None:
    """Print the thinking of each choice.

    Raises:
        SettingError: there is none.
    """
    if not response.traces:
        raise SettingError(NO_TRACE)
    for trace in response.traces:
        console.print(trace_table(trace, num_alternatives))
        console.print(Text(summary(trace, response.routing), style="dim"))


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--file {path}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sottovoce explain", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("prompt", nargs="?", help="a question to ask")
    source.add_argument("--file", help="a saved JSON response of any endpoint; - is stdin")
    parser.add_argument("--alternatives", type=int, default=_NUM_ALTERNATIVES, metavar="N")
    add_flags(parser)
    return parser


def main(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the program; it exits with a message where there is nothing to explain."""
    args = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        if args.file is not None:
            saved = read_wire(TracedResponse, _read(args.file))
            explain(saved, console, args.alternatives)
            return
        with client_of(args, environment) as client:
            done = client.chat(args.prompt, **settings_of(args).options())
        explain(done, console, args.alternatives)
        console.print(Text(printable(done.text.strip())))
    except (SettingError, SottovoceError) as error:
        sys.exit(f"sottovoce explain: {error}")
