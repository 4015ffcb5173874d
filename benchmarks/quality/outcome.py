"""What one arm's samples come to: accuracy, length, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from .drive import Sample
from .statistics import Estimate, busy_seconds, pass_at_1
from .task import Task

Key = tuple[str, str]  # task and problem


@dataclass(frozen=True)
class Outcome:
    """The scored samples of an arm. A sample that failed counts as wrong."""

    arm: str
    sampling: str
    samples: Sequence[Sample]
    is_right: Mapping[tuple[str, str, int], bool]

    @cached_property
    def correct(self) -> dict[Key, NDArray[np.float64]]:
        """Per problem, float64 [samples] of 0 and 1."""
        found: dict[Key, list[float]] = {}
        for s in sorted(self.samples, key=lambda s: s.key):
            found.setdefault((s.task, s.problem), []).append(float(self.is_right[s.key]))
        return {key: np.array(values) for key, values in found.items()}

    def pass_at_1(self, task: str | None = None) -> Estimate:
        """Over all problems, or those of a task."""
        rows = [v for (name, _), v in self.correct.items() if task in (None, name)]
        return pass_at_1(np.stack(rows))

    @property
    def thinking(self) -> float | None:
        """Mean thinking steps of a sample, in tokens or latent."""
        counts = [s.thinking + (s.latent or 0) for s in self.samples if s.thinking is not None]
        return fmean(counts) if counts else None

    def thinking_by_problem(self) -> dict[Key, float]:
        """Mean thinking steps of every problem."""
        found: dict[Key, list[int]] = {}
        for s in self.samples:
            found.setdefault((s.task, s.problem), []).append((s.thinking or 0) + (s.latent or 0))
        return {key: fmean(values) for key, values in found.items()}

    @property
    def soft_share(self) -> float | None:
        """Soft steps over thinking steps, of all samples together."""
        counted = [s for s in self.samples if s.soft is not None and s.thinking]
        if not counted:
            return None
        return sum(s.soft or 0 for s in counted) / sum(s.thinking or 0 for s in counted)

    @property
    def skipped_share(self) -> float | None:
        """Layer executions skipped over all of them, after the prompts; None where not reported."""
        counted = [s for s in self.samples if s.layers_run is not None]
        skipped = sum(s.layers_skipped or 0 for s in counted)
        total = sum(s.layers_run or 0 for s in counted) + skipped
        return skipped / total if total else None

    @property
    def switches(self) -> float | None:
        """Mean changes between soft and discrete in a sample."""
        counts = [s.switches for s in self.samples if s.switches is not None]
        return fmean(counts) if counts else None

    @property
    def seconds(self) -> float:
        """Median seconds from request to end."""
        return median(s.seconds for s in self.samples)

    @property
    def first_answer(self) -> float | None:
        """Median seconds to the answer's first character, of samples that answered."""
        times = [s.first_answer for s in self.samples if s.first_answer is not None]
        return median(times) if times else None

    def goodput(self, target_s: float) -> float:
        """Right answers that came within the target, per second in which the run was busy."""
        good = sum(self.is_right[s.key] and s.seconds <= target_s for s in self.samples)
        return good / busy_seconds([(s.started, s.started + s.seconds) for s in self.samples])

    @property
    def num_errors(self) -> int:
        """Samples for which the endpoint gave an error."""
        return sum(s.error is not None for s in self.samples)

    @property
    def num_cut(self) -> int:
        """Samples that reached max_tokens."""
        return sum(s.finish == "length" for s in self.samples)


def score(arm: str, sampling: str, samples: Sequence[Sample], tasks: Sequence[Task]) -> Outcome:
    """Score an arm's samples with their tasks' own scorers."""
    by_name = {task.name: task for task in tasks}
    problems = {(t.name, p.id): p for t in tasks for p in t.problems}
    mine = [s for s in samples if (s.task, s.problem) in problems]
    is_right = {
        s.key: s.error is None and by_name[s.task].is_correct(problems[s.task, s.problem], s.text)
        for s in mine
    }
    return Outcome(arm, sampling, mine, is_right)
