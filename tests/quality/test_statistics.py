"""Intervals and tests against values worked out elsewhere, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.quality.statistics import (
    busy_seconds,
    mcnemar,
    mean_difference,
    pass_at_1,
    wilson,
)


def test_wilson_equals_the_textbook_value() -> None:
    found = wilson(0.1, 10)  # 1 of 10; R: prop.test(1, 10, correct = FALSE)
    assert (found.low, found.high) == pytest.approx((0.017876, 0.404150), abs=1e-5)


def test_an_interval_holds_its_own_value() -> None:
    for n in range(1, 400):
        assert wilson(0.0, n).low == 0.0
        assert wilson(1.0, n).high == 1.0


def test_mcnemar_is_the_exact_binomial() -> None:
    a = np.array([True] * 9 + [False] * 1 + [True] * 5)
    b = np.array([False] * 9 + [True] * 1 + [True] * 5)
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(a, a) == 1.0


def test_samples_of_one_problem_do_not_count_as_many_problems() -> None:
    rng = np.random.default_rng(0)
    per_problem = (rng.random((100, 1)) < 0.5).astype(float)
    once, repeated = pass_at_1(per_problem), pass_at_1(np.repeat(per_problem, 8, axis=1))
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.02)


def test_the_interval_covers_the_truth() -> None:
    rng, hits, trials = np.random.default_rng(1), 0, 600
    for _ in range(trials):
        chance = rng.beta(2, 1, size=(120, 1))
        found = pass_at_1((rng.random((120, 4)) < chance).astype(float))
        hits += found.low <= 2 / 3 <= found.high
    assert 0.925 <= hits / trials <= 0.975


def test_a_paired_difference_has_the_size_of_its_shift() -> None:
    rng = np.random.default_rng(2)
    b = rng.random(500)
    found = mean_difference(b + 0.1 + 0.01 * rng.standard_normal(500), b)
    assert found.low < 0.1 < found.high
    assert found.high - found.low < 0.003


def test_pauses_are_not_busy() -> None:
    assert busy_seconds([(0, 2), (1, 3), (10, 11), (10.5, 10.6)]) == pytest.approx(4.0)
    assert busy_seconds([]) == 0.0
