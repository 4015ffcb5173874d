"""The control arm: which requests go there, and what the others save against it.

The saving is 1 - mean(treatment length) / mean(control length), with an interval by the delta method
on the logarithm of the ratio. Fieller's covers alike in simulated windows; this one is always finite.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

CONTROL, TREATMENT = "control", "treatment"
CONTROL_MODE = "explicit"
WINDOW_REQUESTS = 50_000  # both arms together, in one API server process
MIN_REQUESTS = 200  # in each arm: below it, intervals of heavy-tailed lengths cover too rarely
_Z = 1.959964  # the normal quantile of a two-sided 95%

Values = float | NDArray[np.float64]


def draw_arm(request_id: str, fraction: float, seed: int = 0) -> str:
    """The arm of a request: the same for the same id, `fraction` of all ids in the control arm."""
    key = seed.to_bytes(8, "big")
    digest = blake2b(request_id.encode(errors="surrogatepass"), digest_size=8, key=key).digest()
    return CONTROL if int.from_bytes(digest, "big") < fraction * 2**64 else TREATMENT


@dataclass(frozen=True)
class Sums:
    """One arm's requests, as far as the interval needs them; arrays hold one window per entry."""

    num: Values = 0.0
    total: Values = 0.0  # reasoning tokens
    squares: Values = 0.0  # of each request's reasoning tokens

    def plus(self, length: float, times: int = 1) -> Sums:
        """With a request more, or with `times` -1 a request less."""
        return Sums(
            self.num + times, self.total + times * length, self.squares + times * length * length
        )

    @property
    def log_mean_variance(self) -> Values:
        """Variance of the logarithm of the mean, to first order: s^2 / (n mean^2)."""
        return np.maximum(self.num * self.squares / self.total**2 - 1, 0) / (self.num - 1)


class Window:
    """The last requests of both arms."""

    def __init__(self, size: int = WINDOW_REQUESTS) -> None:
        self._size = size
        self._requests: deque[tuple[str, int]] = deque()
        self.sums = {CONTROL: Sums(), TREATMENT: Sums()}

    def add(self, arm: str, length: int) -> None:
        """Take in a request of so many reasoning tokens, and let the oldest go where full."""
        self._requests.append((arm, length))
        self.sums[arm] = self.sums[arm].plus(length)
        if len(self._requests) > self._size:
            arm, length = self._requests.popleft()
            self.sums[arm] = self.sums[arm].plus(length, times=-1)


@dataclass(frozen=True)
class Saving:
    """Share of the reasoning tokens saved, with its 95% interval; NaN where nothing is known."""

    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def has_evidence(self) -> bool:
        """Whether the interval leaves zero out; above it the treatment saves, below it costs."""
        return self.low > 0 or self.high < 0


def interval(control: Sums, treatment: Sums) -> tuple[Values, Values, Values]:
    """The saving and the bounds of its 95% interval, for arms of two requests or more, not all 0.

    Student's quantile, by the first term of its expansion in 1/df, with the degrees of freedom of
    Welch and Satterthwaite.
    """
    log_ratio = np.log(treatment.total / treatment.num) - np.log(control.total / control.num)
    parts = [(arm.log_mean_variance, arm.num - 1) for arm in (control, treatment)]
    variance = parts[0][0] + parts[1][0]
    over = np.maximum(variance, np.finfo(np.float64).tiny)  # lengths may all be one and the same
    inverse_df = sum((part / over) ** 2 / df for part, df in parts)
    half = (_Z + (_Z**3 + _Z) / 4 * inverse_df) * np.sqrt(variance)
    return -np.expm1(log_ratio), -np.expm1(log_ratio + half), -np.expm1(log_ratio - half)


def estimate(sums: Mapping[str, Sums]) -> Saving:
    """The saving of a window; unknown while an arm has too few requests or none that thought."""
    arms = (sums[CONTROL], sums[TREATMENT])
    if any(arm.num < MIN_REQUESTS or arm.total <= 0 for arm in arms):
        return Saving()
    return Saving(*(float(value) for value in interval(*arms)))
