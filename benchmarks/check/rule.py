"""When a ratio is worse than its bar: a sign test, which assumes nothing about how a machine is slow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

BARS = Path(__file__).parent / "bars.json"
MAX_FALSE_ALARM = 0.05  # of a ratio whose true median lies on its bar
MIN_PAIRS = 5  # of fewer, not even all can tell

Verdict = Literal["met", "within noise", "worse"]


@dataclass(frozen=True)
class Bar:
    """What a ratio must keep, and where that comes from."""

    better: Literal["higher", "lower"]
    bar: float
    provenance: Mapping[str, Any]

    def is_kept_by(self, value: float) -> bool:
        """Whether one ratio is as good as the bar."""
        return value >= self.bar if self.better == "higher" else value <= self.bar


def _at_most(num_good: int, num_pairs: int) -> float:
    """The chance of no more heads in that many tosses of a fair coin."""
    return sum(math.comb(num_pairs, k) for k in range(num_good + 1)) / 2.0**num_pairs


def _check_size(values: Sequence[float]) -> None:
    if len(values) < MIN_PAIRS:
        raise ValueError(f"{len(values)} pairs cannot tell noise from loss; take {MIN_PAIRS}")


def judge(bar: Bar, values: Sequence[float]) -> Verdict:
    """`worse` if so few of the pairs keep the bar that chance explains it in 1 case of 20 or less.

    Raises:
        ValueError: if there are too few pairs to tell.
    """
    _check_size(values)
    num_kept = sum(bar.is_kept_by(value) for value in values)
    if _at_most(num_kept, len(values)) <= MAX_FALSE_ALARM:
        return "worse"
    return "met" if 2 * num_kept >= len(values) else "within noise"


def bar_of(
    better: Literal["higher", "lower"], values: Sequence[float], provenance: Mapping[str, Any]
) -> Bar:
    """The best bar that a sample shows the median to keep: it would just fail a stricter one.

    Raises:
        ValueError: if there are too few pairs to tell.
    """
    _check_size(values)
    worst_first = sorted(values, reverse=better == "lower")
    spare = max(k for k in range(len(values)) if _at_most(k, len(values)) <= MAX_FALSE_ALARM)
    return Bar(better, round(worst_first[spare], 4), provenance)


def read_bars(path: Path = BARS) -> dict[str, Bar]:
    """The committed bars, by the name of what they hold for."""
    return {name: Bar(**entry) for name, entry in json.loads(path.read_text()).items()}


def write_bars(bars: Mapping[str, Bar], path: Path = BARS) -> None:
    """Write the file anew."""
    path.write_text(json.dumps({n: asdict(bar) for n, bar in bars.items()}, indent=1) + "\n")
