"""Intervals and paired tests; the unit is always the problem, since samples of one hang together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # of a two-sided 95 % interval
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(share: float, n: float) -> Estimate:
    """Wilson's score interval of a share seen in n independent trials (Wilson, 1927)."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    # Rounding must not leave 0 or 1 outside their own intervals.
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def pass_at_1(correct: NDArray[np.float64]) -> Estimate:
    """pass@1 from float64 [problems, samples] of 0 and 1, with its interval.

    The samples of a problem are not independent: Wilson's interval gets the number of trials that
    would have the variance seen between problems.
    """
    per_problem = correct.mean(axis=1)
    share, n = float(per_problem.mean()), len(per_problem)
    if n < 2 or share in (0.0, 1.0):
        return wilson(share, n)
    variance = float(per_problem.var(ddof=1)) / n
    effective = share * (1 - share) / variance if variance > 0 else float(n)
    return wilson(share, min(effective, float(correct.size)))


def mean_difference(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean of a - b over the same problems, [problems] each: percentile bootstrap over problems."""
    difference = a - b
    rng, n = np.random.default_rng(seed), len(difference)
    means = np.array([difference[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(difference.mean()), float(low), float(high))


def mean_saving(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> Estimate:
    """1 - mean(a) / mean(b) over the same problems, [problems] each: bootstrap as above."""
    rng, n = np.random.default_rng(seed), len(a)
    drawn = [rng.integers(0, n, n) for _ in range(_RESAMPLES)]
    savings = [1 - a[rows].mean() / b[rows].mean() for rows in drawn]
    low, high = np.quantile(savings, [0.025, 0.975])
    return Estimate(float(1 - a.mean() / b.mean()), float(low), float(high))


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided exact p-value of McNemar's test (1947): is one right where the other is wrong?"""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def busy_seconds(intervals: list[tuple[float, float]]) -> float:
    """The time covered by intervals (start, end): pauses between resumed runs do not count."""
    total, until = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
