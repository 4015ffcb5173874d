"""Numbers in order, by taking the next one out again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family


def solve(entry: Mapping[str, Any]) -> Chain:
    """Selection sort."""
    data = entry["metadata"]
    pick, word = (min, "smallest") if data["direction"] == "ascending" else (max, "largest")
    left, taken, last, chain = list(data["original_numbers"]), [], None, Chain()
    while left:
        best = pick(left, key=float)
        left.remove(best)
        taken.append(best)
        rest = "left " + ", ".join(left) if left else "none left"
        last = chain.add(f"{word} {best}, {rest}", last)
    chain.answer = str(taken)
    return chain


FAMILY = Family(
    "number_sorting",
    solve,
    {"min_numbers": 3, "max_numbers": 6, "min_decimals": 0, "max_decimals": 0},
)
