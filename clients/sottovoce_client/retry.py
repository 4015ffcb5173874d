"""When to ask again: exponential back-off with jitter, never sooner than Retry-After says."""

from __future__ import annotations

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_RETRIED = frozenset({429, 503})  # statuses of a server that has not begun the work


@dataclass(frozen=True)
class Retries:
    """How often and how long; `max_retries=0` turns it off."""

    max_retries: int = 4
    base_s: float = 0.5  # the first back-off, which doubles with each attempt
    cap_s: float = 8.0  # the longest back-off
    max_wait_s: float = 60.0  # a Retry-After above it is an error at once

    def delay_s(
        self, status: int, attempt: int, retry_after_s: float | None, rng: random.Random
    ) -> float | None:
        """Seconds to wait before the next attempt; None where this answer stands.

        Args:
            attempt: how many answers were retried before this one.
        """
        asked_s = retry_after_s or 0.0
        if status not in _RETRIED or attempt >= self.max_retries or asked_s > self.max_wait_s:
            return None
        backoff_s = min(self.cap_s, self.base_s * 2.0**attempt)
        # Added to what the server asked for: clients that it turned away together must not return
        # together.
        return asked_s + backoff_s * rng.uniform(0.5, 1.0)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from `now` (seconds since 1970); the header may hold a number or a date.

    A malformed header counts as none.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value) if value.strip().isdigit() else _seconds_until(value, now))
    except ValueError:
        return None


def _seconds_until(date: str, now: float) -> float:
    return parsedate_to_datetime(date).timestamp() - now
