"""The latest rows of a file of results, and tables of them in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .rows import RESULTS

Row = Mapping[str, Any]


def latest(name: str, *keys: str) -> list[Row]:
    """The newest row for each value of `keys` of a file of results, in the file's order."""
    path = RESULTS / f"{name}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found: dict[str, Row] = {}
    for row in map(json.loads, lines):
        key = json.dumps([row[k] for k in keys])
        found.pop(key, None)
        found[key] = row
    return list(found.values())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown, without its last line break."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def spread(r: Row) -> str:
    """A ratio's median, and what lies 30 % of the sample below and above it."""
    return f"{r['p50']:.3f} [{r['p20']:.3f}, {r['p80']:.3f}]"
