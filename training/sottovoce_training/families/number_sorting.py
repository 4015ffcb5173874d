"""Numbers in order, each put in its place among those before it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family


def solve(entry: Mapping[str, Any]) -> Chain:
    """Insertion sort: every comparison is of two numbers, never of a whole list."""
    data = entry["metadata"]
    direction, chain = data["direction"], Chain()
    sign = 1.0 if direction == "ascending" else -1.0
    first, *rest = data["original_numbers"]
    placed, last = [first], chain.add(f"{direction}: {_short(first)}")
    for number in rest:
        insort(placed, number, key=lambda text: sign * float(text))
        last = chain.add(f"add {_short(number)}: " + ", ".join(map(_short, placed)), last)
    chain.answer = str(placed)
    return chain


def _short(number: str) -> str:
    return number.removesuffix(".0")


FAMILY = Family(
    "number_sorting",
    solve,
    {"min_numbers": 3, "max_numbers": 4, "min_decimals": 0, "max_decimals": 0},
)
