"""Two things measured in turn, so that what slows the machine slows both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

from .rows import append, percentiles

# A stock engine's processes spin for a second after its last step, on the cores of the next run.
REST_S = 1.5
Pair = tuple[float, float]
T = TypeVar("T")  # what a run gives: seconds, or more


def alternated(
    a: Sequence[Callable[[], T]], b: Sequence[Callable[[], T]], rest_s: float = 0.0
) -> list[tuple[T, T]]:
    """What a[i] and b[i] give, in alternating order, after one of each that is dropped."""

    def timed(run: Callable[[], T]) -> T:
        time.sleep(rest_s)
        return run()

    timed(a[0]), timed(b[0])
    pairs = []
    for i, (first, second) in enumerate(zip(a, b, strict=True)):
        if i % 2 == 0:
            x, y = timed(first), timed(second)
        else:
            y, x = timed(second), timed(first)
        pairs.append((x, y))
    return pairs


def paired(
    a: Callable[[], T], b: Callable[[], T], rounds: int, rest_s: float = REST_S
) -> list[tuple[T, T]]:
    """What a and b give, run in turn, in alternating order, after one of each that is dropped."""
    return alternated([a] * rounds, [b] * rounds, rest_s)


def ratios(pairs: list[Pair]) -> list[float]:
    """a / b of every pair."""
    return [a / b for a, b in pairs]


def report(
    name: str, parameters: dict[str, Any], metric: str, pairs: list[Pair], **also: Any
) -> None:
    """Append a row of the ratios a / b, with the seconds of both and what `also` says; print it."""
    values = ratios(pairs)
    seconds = [float(f"{median(side):.4g}") for side in zip(*pairs, strict=True)]
    append(name, parameters, metric, "ratio", values, median_seconds=seconds, **also)
    p = percentiles(values)
    about = ", ".join(f"{k}={v}" for k, v in parameters.items())
    print(
        f"{name:<22} {metric:<46} {about:<24} {p['p50']:.3f}  [{p['p20']:.3f}, {p['p80']:.3f}]",
        flush=True,
    )
