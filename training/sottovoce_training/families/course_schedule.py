"""Whether all courses can be taken: a search of a small graph for an order, or for a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family


def solve(entry: Mapping[str, Any]) -> Chain:
    """Kahn's algorithm: take the lowest course whose prerequisites are done, until none is left."""
    data = entry["metadata"]
    needs: dict[int, set[int]] = {course: set() for course in sorted(data["courses"])}
    for course, before in data["prerequisites"]:
        needs[course].add(before)
    chain, done = Chain(), dict[int, int]()
    for course, before in needs.items():
        chain.add(f"{course} needs " + (", ".join(map(str, sorted(before))) or "nothing"))
    listing = {course: index for index, course in enumerate(needs)}
    while ready := [c for c in needs if c not in done and needs[c] <= done.keys()]:
        course = ready[0]
        uses = [listing[course], *(done[before] for before in needs[course])]
        done[course] = chain.add(f"take {course}", *uses)
    stuck = [course for course in needs if course not in done]
    if stuck:
        waits = "; ".join(f"{c} waits for {min(needs[c] - done.keys())}" for c in stuck)
        chain.add(f"stuck: {waits}", *(listing[c] for c in stuck), *done.values())
    else:
        chain.add("all taken", *done.values())
    chain.answer = str(not stuck)
    return chain


FAMILY = Family("course_schedule", solve, {"min_num_courses": 3, "max_num_courses": 5})
