"""The greatest common divisor of two numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family


def solve(entry: Mapping[str, Any]) -> Chain:
    """Euclid's algorithm."""
    high, low = sorted(entry["metadata"]["numbers"], reverse=True)
    chain = Chain()
    last = chain.add(f"start with {high} and {low}")
    while low:
        times, rest = divmod(high, low)
        last = chain.add(f"{times} * {low} = {times * low}, {high} - {times * low} = {rest}", last)
        high, low = low, rest
    chain.add(f"rest 0, so the divisor is {high}", last)
    chain.answer = str(high)
    return chain


FAMILY = Family(
    "gcd", solve, {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 100}
)
