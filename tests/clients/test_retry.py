"""Back-off, jitter and Retry-After."""

from __future__ import annotations

import random

import pytest

from sottovoce_client import Retries
from sottovoce_client.retry import parse_retry_after

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 GMT


class Edge(random.Random):
    """Draws an end of the interval."""

    def __init__(self, is_high: bool) -> None:
        super().__init__(0)
        self._is_high = is_high

    def uniform(self, a: float, b: float) -> float:
        return b if self._is_high else a


LOW, HIGH = Edge(False), Edge(True)


@pytest.mark.parametrize("status", [429, 503])
def test_back_off_doubles_up_to_the_cap(status: int) -> None:
    retries = Retries(max_retries=6, base_s=0.5, cap_s=4.0)
    for attempt, longest_s in enumerate([0.5, 1, 2, 4, 4, 4]):
        assert retries.delay_s(status, attempt, None, HIGH) == longest_s
        assert retries.delay_s(status, attempt, None, LOW) == longest_s / 2
    assert retries.delay_s(status, 6, None, LOW) is None


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422, 500, 502])
def test_what_is_not_retried(status: int) -> None:
    assert Retries().delay_s(status, 0, 1.0, LOW) is None


def test_never_sooner_than_asked() -> None:
    assert Retries(base_s=0.5).delay_s(429, 0, 7.0, LOW) == 7.25
    assert Retries(base_s=0.5).delay_s(429, 0, 7.0, HIGH) == 7.5


def test_too_long_a_wait_is_no_wait() -> None:
    assert Retries(max_wait_s=60).delay_s(503, 0, 60.0, LOW) is not None
    assert Retries(max_wait_s=60).delay_s(503, 0, 60.5, LOW) is None


def test_off() -> None:
    assert Retries(max_retries=0).delay_s(429, 0, None, LOW) is None


def test_a_thousand_attempts_do_not_overflow() -> None:
    assert Retries(max_retries=2000, cap_s=8).delay_s(429, 1000, None, HIGH) == 8


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("²", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
