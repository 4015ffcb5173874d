"""What a run came to, mode by mode: latencies, throughput, errors, quality-gated goodput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .profiles import Load
from .workload import Answered, Timed

Percentiles = dict[str, float]
_POINTS = (50, 95, 99)
TIMES = {
    "ttft": "time to first token",
    "first_answer": "time to first answer token",
    "tpot": "time per output token",
    "seconds": "request latency",
}


@dataclass(frozen=True)
class Summary:
    """One mode in one run of one tool. Times are in seconds, rates per second of the run.

    A run lasts from its first request to its last answer, of whatever mode: where modes share a
    load, their rates add up to the load's.
    """

    tool: str
    load: str
    level: float
    mode: str
    is_mixed: bool  # whether other modes shared the load
    requests: int
    errors: int
    cut: int | None  # answers that reached max_tokens; None where the tool does not tell
    right: int
    right_in_time: int
    goodput: float  # right answers within the latency target
    throughput: float  # answers, right or wrong
    tokens_per_s: float
    times: dict[str, Percentiles | None]  # by the names of TIMES; None where not measured
    first_error: str | None


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """p50, p95 and p99, linearly interpolated; None of an empty sample."""
    if not values:
        return None
    found = np.percentile(np.array(values), _POINTS)
    return {f"p{p}": round(float(v), 5) for p, v in zip(_POINTS, found, strict=True)}


def _times(good: Sequence[Timed]) -> dict[str, Percentiles | None]:
    columns = {name: [getattr(s, name) for s in good] for name in TIMES}
    return {
        name: percentiles([v for v in values if v is not None]) for name, values in columns.items()
    }


def _duration(samples: Sequence[Timed]) -> float:
    sent = [s for s in samples if s.error is None]
    if not sent:
        return float("inf")
    return max(s.started + s.seconds for s in sent) - min(s.started for s in sent)


def summarize(
    tool: str, load: Load, answers: Sequence[Answered], latency_target_s: float
) -> list[Summary]:
    """A summary for every mode of a run, in the order of their names."""
    duration = _duration([sample for _, sample in answers])
    modes = sorted({request.mode for request, _ in answers})
    found = []
    for mode in modes:
        mine = [(request, s) for request, s in answers if request.mode == mode]
        good = [s for _, s in mine if s.error is None]
        right = [s for request, s in mine if request.is_right(s)]
        in_time = [s for s in right if s.seconds <= latency_target_s]
        errors = [s.error for _, s in mine if s.error is not None]
        finishes = [s.finish for s in good if s.finish]
        found.append(Summary(
            tool, load.name, load.level, mode, len(modes) > 1, len(mine), len(errors),
            finishes.count("length") if finishes else None, len(right), len(in_time),
            len(in_time) / duration, len(good) / duration,
            sum(s.tokens for s in good) / duration, _times(good), min(errors, default=None),
        ))  # fmt: skip
    return found
