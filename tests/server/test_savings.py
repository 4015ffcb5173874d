"""The draw of an arm, the window, and how often the saving's interval holds the truth."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce_server.savings import (
    CONTROL,
    MIN_REQUESTS,
    TREATMENT,
    Saving,
    Sums,
    Window,
    draw_arm,
    estimate,
    interval,
)

NUM_WINDOWS = 2000
NUM_CONTROL, NUM_TREATMENT = MIN_REQUESTS, 9 * MIN_REQUESTS  # a control fraction of 0.1
MEDIAN, LIMIT = 400.0, 4000.0  # tokens

Lengths = NDArray[np.float64]


def light(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> tuple[Lengths, float]:
    """Lengths that spread by half of their mean, and the mean."""
    return rng.gamma(4.0, scale * MEDIAN / 4, shape), scale * MEDIAN


def heavy(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> tuple[Lengths, float]:
    """One length in a hundred is eleven times the median."""
    median, sigma = scale * MEDIAN, 1.0
    return rng.lognormal(math.log(median), sigma, shape), median * math.exp(sigma**2 / 2)


def cut(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> tuple[Lengths, float]:
    """Heavier still, up to a limit on tokens."""
    mu, sigma, normal = math.log(scale * MEDIAN), 1.2, NormalDist()
    edge = (math.log(LIMIT) - mu) / sigma
    below = math.exp(mu + sigma**2 / 2) * normal.cdf(edge - sigma)
    lengths = rng.lognormal(mu, sigma, shape)
    return np.minimum(lengths, LIMIT), below + LIMIT * (1 - normal.cdf(edge))


def sums(lengths: Lengths) -> Sums:
    """One window per row."""
    return Sums(float(lengths.shape[1]), lengths.sum(axis=1), (lengths**2).sum(axis=1))


def fieller_coverage(control: Lengths, treatment: Lengths, ratio: float) -> float:
    """How often Fieller's interval of a ratio of means holds the true one (normal quantile)."""
    distance = treatment.mean(axis=1) - ratio * control.mean(axis=1)
    variances = [x.var(axis=1, ddof=1) / x.shape[1] for x in (control, treatment)]
    return float(np.mean(distance**2 <= 1.96**2 * (variances[1] + ratio**2 * variances[0])))


@pytest.mark.parametrize("scale", [1.0, 0.7], ids=["no effect", "effect"])
@pytest.mark.parametrize("draw", [light, heavy, cut])
def test_coverage(draw: object, scale: float) -> None:
    """The 95% interval holds the true saving in 93% to 97% of the windows."""
    assert callable(draw)
    rng = np.random.default_rng(7)
    control, control_mean = draw(rng, (NUM_WINDOWS, NUM_CONTROL), 1.0)
    treatment, treatment_mean = draw(rng, (NUM_WINDOWS, NUM_TREATMENT), scale)
    truth = 1 - treatment_mean / control_mean
    assert (truth == 0) == (scale == 1.0)
    _, low, high = interval(sums(control), sums(treatment))
    covered = float(np.mean((low <= truth) & (truth <= high)))
    assert 0.93 <= covered <= 0.97, covered
    assert abs(covered - fieller_coverage(control, treatment, 1 - truth)) < 0.01


def test_a_pareto_tail_is_covered_less() -> None:
    """What server/README.md says of exponent 2.5, without a limit and cut at 80 times the least."""
    rng, exponent = np.random.default_rng(7), 2.5
    control, treatment = (
        1 + rng.pareto(exponent, (NUM_WINDOWS, n)) for n in (NUM_CONTROL, NUM_TREATMENT)
    )
    for limit in (math.inf, 80.0):
        arms = [np.minimum(lengths, limit) for lengths in (control, treatment)]
        _, low, high = interval(*map(sums, arms))
        covered = float(np.mean((low <= 0) & (high >= 0)))  # no effect
        assert 0.91 <= covered < 0.935, covered


def window_of(control: list[int], treatment: list[int]) -> dict[str, Sums]:
    """The sums of a window with these lengths."""
    window = Window()
    for arm, lengths in ((CONTROL, control), (TREATMENT, treatment)):
        for length in lengths:
            window.add(arm, length)
    return window.sums


def test_a_clear_saving() -> None:
    """By hand: means 200 and 150, relative variances (1/16) / (n - 1) and (1/9) / (n - 1)."""
    saving = estimate(window_of([150, 250] * 200, [100, 200] * 200))
    half = 1.96 * math.sqrt((1 / 16 + 1 / 9) / 399)
    assert saving.estimate == pytest.approx(0.25)
    assert saving.low == pytest.approx(1 - 0.75 * math.exp(half), abs=2e-4)
    assert saving.high == pytest.approx(1 - 0.75 * math.exp(-half), abs=2e-4)
    assert saving.has_evidence


def test_a_clear_loss_is_evidence_too() -> None:
    saving = estimate(window_of([100, 200] * 200, [150, 250] * 200))
    assert saving.high < 0
    assert saving.has_evidence


def test_no_evidence_while_the_interval_holds_zero() -> None:
    saving = estimate(window_of([10, 700] * 150, [12, 690] * 150))
    assert saving.low < 0 < saving.high
    assert not saving.has_evidence


@pytest.mark.parametrize(
    ("num_control", "num_treatment", "is_known"),
    [
        (MIN_REQUESTS, MIN_REQUESTS, True),
        (MIN_REQUESTS - 1, 9 * MIN_REQUESTS, False),
        (9 * MIN_REQUESTS, MIN_REQUESTS - 1, False),
        (0, 0, False),
    ],
)
def test_too_few_requests(num_control: int, num_treatment: int, is_known: bool) -> None:
    saving = estimate(window_of([100] * num_control, [50] * num_treatment))
    assert math.isnan(saving.estimate) != is_known
    assert saving.has_evidence == is_known


@pytest.mark.parametrize(("control", "treatment"), [(0, 0), (5, 0), (0, 5)])
def test_an_arm_that_never_thought(control: int, treatment: int) -> None:
    saving = estimate(window_of([control] * MIN_REQUESTS, [treatment] * MIN_REQUESTS))
    assert math.isnan(saving.estimate)
    assert not saving.has_evidence


def test_lengths_that_are_all_the_same() -> None:
    """As a thinking budget makes them: no spread, no saving, no claim."""
    saving = estimate(window_of([64] * MIN_REQUESTS, [64] * MIN_REQUESTS))
    assert saving == Saving(0.0, 0.0, 0.0)
    assert not saving.has_evidence


def test_four_times_the_requests_halve_the_interval() -> None:
    savings = [estimate(window_of([150, 250] * n, [100, 200] * n)) for n in (100, 400, 1600)]
    widths = [saving.high - saving.low for saving in savings]
    assert [a / b for a, b in pairwise(widths)] == pytest.approx([2, 2], rel=0.02)


def test_window_forgets_the_oldest() -> None:
    window = Window(size=3)
    for arm, length in ((CONTROL, 7), (TREATMENT, 2), (CONTROL, 5), (TREATMENT, 3)):
        window.add(arm, length)
    assert window.sums == {CONTROL: Sums(1, 5, 25), TREATMENT: Sums(2, 5, 13)}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_share_of_the_control_arm(fraction: float) -> None:
    """Within four standard deviations of a fair draw; 0 and 1 are exact."""
    num = 4000
    drawn = [draw_arm(f"request-{i}", fraction) for i in range(num)].count(CONTROL)
    assert abs(drawn - fraction * num) <= 4 * math.sqrt(num * fraction * (1 - fraction))


def test_an_id_keeps_its_arm() -> None:
    """In every process, and after a restart; another seed draws anew; any text is an id."""
    ids = [f"request-{i}" for i in range(16)]
    drawn = "".join(draw_arm(request_id, 0.5)[0] for request_id in ids)
    assert drawn == "tcctccctttctcctc"
    assert drawn != "".join(draw_arm(request_id, 0.5, seed=1)[0] for request_id in ids)
    assert draw_arm("\ud800\u00e9", 0.5) in (CONTROL, TREATMENT)


def test_a_larger_fraction_takes_no_one_out_of_the_control_arm() -> None:
    small = {i for i in range(1000) if draw_arm(str(i), 0.1) == CONTROL}
    large = {i for i in range(1000) if draw_arm(str(i), 0.3) == CONTROL}
    assert small < large
