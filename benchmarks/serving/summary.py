"""What a run came to, mode by mode: latencies, throughput, errors, quality-gated goodput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..quality.statistics import Estimate, pass_at_1
from .session import Run
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
    """One mode under one load of one tool. Times are in seconds, rates per second of its runs.

    A run lasts from its first request to its last answer, of whatever mode: where modes share a
    load, their rates add up to the load's. Rounds are taken as one long run.
    """

    profile: str
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
    accuracy: Estimate  # what failed is wrong
    # Means of an answer, None where the tool does not tell; thinking is in tokens or latents.
    thinking: float | None
    soft: float | None
    latent: float | None
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


def _duration(run: Sequence[Answered]) -> float:
    sent = [s for _, s in run if s.error is None]
    if not sent:
        return 0.0
    return max(s.started + s.seconds for s in sent) - min(s.started for s in sent)


def _accuracy(mine: Sequence[Answered]) -> Estimate:
    """Rounds ask the same problems, which makes them samples of a problem."""
    problems: dict[tuple[str, str], list[float]] = {}
    for request, s in mine:
        key = request.task.name, request.problem.id
        problems.setdefault(key, []).append(float(request.is_right(s)))
    return pass_at_1(np.array(list(problems.values())))


def _mean(values: Sequence[int | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def _summary(run: Run, mine: Sequence[Answered], duration: float, target_s: float) -> Summary:
    good = [s for _, s in mine if s.error is None]
    right = [s for request, s in mine if request.is_right(s)]
    in_time = [s for s in right if s.seconds <= target_s]
    errors = [s.error for _, s in mine if s.error is not None]
    finishes = [s.finish for s in good if s.finish]
    return Summary(
        profile=run.profile, tool=run.tool, load=run.load.name, level=run.load.level,
        mode=mine[0][0].mode, is_mixed=len(run.arms) > 1, requests=len(mine), errors=len(errors),
        cut=finishes.count("length") if finishes else None, right=len(right),
        right_in_time=len(in_time), accuracy=_accuracy(mine),
        thinking=_mean([None if s.thinking is None else s.thinking + (s.latent or 0) for s in good]),
        soft=_mean([s.soft for s in good]), latent=_mean([s.latent for s in good]),
        goodput=len(in_time) / duration, throughput=len(good) / duration,
        tokens_per_s=sum(s.tokens for s in good) / duration, times=_times(good),
        first_error=min(errors, default=None),
    )  # fmt: skip


def summarize(run: Run, rounds: Sequence[Sequence[Answered]], target_s: float) -> list[Summary]:
    """A summary for every mode of a run, in the order of their names, from all of its rounds."""
    answers = [answer for found in rounds for answer in found]
    duration = sum(map(_duration, rounds)) or float("inf")
    modes = sorted({request.mode for request, _ in answers})
    return [
        _summary(run, [a for a in answers if a[0].mode == mode], duration, target_s)
        for mode in modes
    ]
