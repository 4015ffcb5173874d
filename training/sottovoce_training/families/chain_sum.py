"""Sums and differences of several numbers, from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family
from .numbers import OPERATIONS


def solve(entry: Mapping[str, Any]) -> Chain:
    """A running total."""
    first, *rest = entry["metadata"]["expression"].split()
    chain, total, last = Chain(), int(first), None
    for operator, number in zip(rest[::2], rest[1::2], strict=True):
        line, total = OPERATIONS[operator](total, int(number))
        last = chain.add(line, last)
    chain.answer = str(total)
    return chain


FAMILY = Family(
    "chain_sum", solve, {"min_terms": 3, "max_terms": 5, "min_digits": 1, "max_digits": 2}
)
