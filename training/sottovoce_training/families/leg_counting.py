"""How many legs a list of animals has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family
from .numbers import add, multiply


def solve(entry: Mapping[str, Any]) -> Chain:
    """Each animal's legs, then a running total of them."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    chain, found = Chain(), []
    for animal, count in entry["metadata"]["animals"].items():
        line, legs = multiply(count, ANIMALS[animal])
        found.append((legs, chain.add(f"{animal}: {line}")))
    total, last = found[0]
    for legs, step in found[1:]:
        line, total = add(total, legs)
        last = chain.add(line, last, step)
    chain.answer = str(total)
    return chain


FAMILY = Family(
    "leg_counting",
    solve,
    {"min_animals": 2, "max_animals": 4, "min_instances": 1, "max_instances": 9},
)
