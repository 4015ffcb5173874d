"""The problem families that the tiny reasoner learns, by name."""

from __future__ import annotations

from . import (
    basic_arithmetic,
    chain_sum,
    countdown,
    course_schedule,
    family_relationships,
    gcd,
    leg_counting,
    number_sorting,
)
from .family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (
        chain_sum, basic_arithmetic, leg_counting, gcd, number_sorting, family_relationships,
        course_schedule, countdown,
    )
}  # fmt: skip
