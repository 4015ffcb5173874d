"""The problem families: every chain is right, grounded, and kept out of the other splits."""

from __future__ import annotations

import itertools
import re
from statistics import mean
from typing import Any

import pytest

from sottovoce_training.chain import Chain
from sottovoce_training.families import FAMILIES, SPLITS, Family

NAMES = sorted(FAMILIES)


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_the_solver_satisfies_the_families_own_scorer(family: Family) -> None:
    for problem in family.problems("train", 0, 200):  # which raises where it does not
        assert problem.question
        assert family.score(problem.answer, problem.entry) == 1.0
        assert family.score("no such answer", problem.entry) < 1.0


def test_every_equation_in_a_chain_holds(family: Family) -> None:
    checked = 0
    for problem in family.problems("validation", 0, 100):
        for step in problem.chain.steps:
            for equation in step.text.replace(" yes", "").replace(" no", "").split(", "):
                sides = [s for s in equation.split(": ")[-1].split(" = ") if re.search(r"\d", s)]
                if len(sides) > 1 and all(re.fullmatch(r"[-\d\s+*()/]+", s) for s in sides):
                    values = {eval(side) for side in sides}
                    assert len(values) == 1, step.text
                    checked += 1
    if family.name not in ("number_sorting", "family_relationships", "course_schedule"):
        assert checked > 100


def test_what_is_left_of_an_expression_is_worth_the_same() -> None:
    checked = 0
    for problem in FAMILIES["basic_arithmetic"].problems("validation", 0, 300):
        for step in problem.chain.steps:
            _, has_left, left = step.text.partition(", left ")
            if has_left:
                assert eval(left) == int(problem.answer), (problem.question, step.text)
                checked += 1
    assert checked > 300


def test_names_are_written_as_in_the_story() -> None:
    for problem in FAMILIES["family_relationships"].problems("validation", 0, 100):
        data = problem.entry["metadata"]
        first, second = (step.text for step in problem.chain.steps[:2])
        assert first.startswith(f"of {data['person1']}: ")
        assert second.startswith(f"of {data['person2']}: ")
        for name in re.findall(r"[A-Z]\w*", problem.chain.text):
            assert name in problem.question


def test_steps_use_earlier_steps_and_all_lead_somewhere(family: Family) -> None:
    used = 0
    for problem in family.problems("validation", 0, 100):
        for index, step in enumerate(problem.chain.steps):
            assert all(use < index for use in step.uses)
            used += len(step.uses)
        assert "\n" not in "".join(step.text for step in problem.chain.steps)
    assert used > 100


def test_problems_are_reproducible_and_varied(family: Family) -> None:
    first = [p.question for p in family.problems("test", 0, 50)]
    assert first == [p.question for p in family.problems("test", 0, 50)]
    assert len(set(first)) > 40


def test_a_wrong_solver_is_found_out() -> None:
    right = FAMILIES["chain_sum"]

    def wrong(entry: Any) -> Chain:
        chain = right.solve(entry)
        chain.answer = str(int(chain.answer) + 1)
        return chain

    with pytest.raises(ValueError, match=r"chain_sum 0: '-?\d+' is not '-?\d+'"):
        Family(right.name, wrong, right.config).problem(0)


def test_splits_do_not_overlap() -> None:
    for a, b in itertools.combinations(SPLITS.values(), 2):
        assert a.stop <= b.start or b.stop <= a.start


def test_chains_are_long_enough_to_think_about() -> None:
    words = [
        len(re.findall(r"\d|[^\d\s]+", problem.chain.text))
        for family in FAMILIES.values()
        for problem in family.problems("test", 0, 100)
    ]
    assert mean(words) >= 40


def test_a_chain_refuses_a_step_from_the_future() -> None:
    chain = Chain()
    assert chain.add("a") == 0
    assert chain.add("b", 0, None, 0) == 1
    assert chain.steps[1].uses == (0,)
    with pytest.raises(ValueError, match="below 2"):
        chain.add("c", 2)
    with pytest.raises(ValueError, match="below 2"):
        chain.add("c", -1)
