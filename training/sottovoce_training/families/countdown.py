"""Reach a target with all of three numbers: a search that keeps alternatives open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..chain import Chain
from .family import Family


def _goals(target: int, last: int) -> dict[int, str]:
    """What the other two numbers must make, to what is then done with `last`."""
    goals = {target - last: f"{{}} + {last}", target + last: f"{{}} - {last}"}
    if target % last == 0:
        goals.setdefault(target // last, f"({{}}) * {last}")
    goals.setdefault(target * last, f"({{}}) / {last}")
    goals.setdefault(last - target, f"{last} - ({{}})")
    return {goal: form for goal, form in goals.items() if goal > 0}


def _pairs(a: int, b: int) -> Iterator[tuple[int, str]]:
    """What two numbers make, and how."""
    high, low = max(a, b), min(a, b)
    yield high + low, f"{high} + {low}"
    yield high - low, f"{high} - {low}"
    yield high * low, f"{high} * {low}"
    if high % low == 0:
        yield high // low, f"{high} / {low}"


def solve(entry: Mapping[str, Any]) -> Chain:
    """For each number used last: the goals that it leaves, then what the other two make."""
    data = entry["metadata"]
    numbers, target, chain = list(data["numbers"]), data["target"], Chain()
    for i in sorted(range(len(numbers)), key=lambda i: -numbers[i]):
        last, (a, b) = numbers[i], numbers[:i] + numbers[i + 1 :]
        goals = _goals(target, last)
        wanted = chain.add(f"{last} last: want " + " or ".join(map(str, goals)))
        for value, form in _pairs(a, b):
            is_hit = value in goals
            tried = chain.add(f"{form} = {value} " + ("yes" if is_hit else "no"), wanted)
            if is_hit:
                chain.answer = goals[value].format(form)
                chain.add(f"{chain.answer} = {target}", wanted, tried)
                return chain
    raise ValueError(f"no way to make {target} from {numbers}")


FAMILY = Family(
    "countdown",
    solve,
    {
        "min_numbers": 3,
        "max_numbers": 3,
        "min_value": 2,
        "max_value": 9,
        "min_target": 10,
        "max_target": 40,
    },
)
