"""Published studies, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..markdown import Row, latest, table

_HEADER = ("arm", "pass@1 [95 %]", "thinking steps", "soft", "switches", "pass@1 - explicit",
           "steps - explicit", "McNemar p")  # fmt: skip


def _studies() -> list[list[Row]]:
    """Rows as they were published together: `explicit` comes first."""
    found: list[list[Row]] = []
    for row in latest("quality", "parameters", "commit"):
        if row["parameters"]["arm"] == "explicit":
            found.append([])
        found[-1].append(row)
    return found


def _interval(e: Any, digits: int, scale: float = 1.0, sign: str = "") -> str:
    value, low, high = (f"{scale * e[k]:{sign}.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _line(r: Row) -> list[object]:
    against = r["difference"]
    differences = (
        [_interval(against["accuracy"], 1, 100, "+"), _interval(against["steps"], 1, 1, "+"),
         f"{against['mcnemar_p']:.2g}"] if against else ["", "", ""]
    )  # fmt: skip
    return [
        f"`{r['parameters']['arm']}`", _interval(r, 1, 100), f"{r['thinking_steps']:.1f}",
        f"{r['soft_share']:.0%}".replace("%", " %"), f"{r['switches']:.1f}", *differences,
    ]  # fmt: skip


def _tables(rows: Sequence[Row]) -> str:
    tasks = list(rows[0]["by_task"])
    by_task = (
        [f"`{r['parameters']['arm']}`", *(f"{100 * r['by_task'][t]['value']:.1f}" for t in tasks)]
        for r in rows
    )
    return f"{table(_HEADER, map(_line, rows))}\n\n{table(['arm', *tasks], by_task)}"


def quality(model: str, sampling: str, arm: str) -> Callable[[], str]:
    """The latest study of a model at a sampling that has such an arm: all tasks, then each."""

    def made() -> str:
        fit = [
            rows for rows in _studies()
            if (rows[0]["parameters"]["model"], rows[0]["parameters"]["sampling"]) == (model, sampling)
            and any(r["parameters"]["arm"] == arm for r in rows)
        ]  # fmt: skip
        return _tables(fit[-1]) if fit else "Not run yet."

    return made
