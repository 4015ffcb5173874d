"""The requests of a run, and what came of them, scored by the scorers of their tasks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..quality.arms import Arm, Sampling
from ..quality.drive import Sample
from ..quality.task import Problem, Task

ROUTE = "/v1/chat/completions"


@dataclass(frozen=True)
class Timed(Sample):
    """A sample as a load tool saw it. `tpot` is the mean gap between tokens; both in seconds."""

    ttft: float | None = None  # to the first token, of thinking or answer
    tpot: float | None = None


@dataclass(frozen=True)
class Request:
    """A problem to be asked in a mode, and the body that asks it."""

    mode: str
    task: Task
    problem: Problem
    body: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The problem as it is sent."""
        return self.problem.prompt

    def failed(self, error: str) -> Timed:
        """The sample of a request that got no answer."""
        return Timed(
            task=self.task.name, problem=self.problem.id, sample=0, text="", thinking=None,
            soft=None, switches=None, tokens=0, first_answer=None, seconds=0.0, started=0.0,
            finish=None, error=error,
        )  # fmt: skip

    def is_right(self, sample: Sample) -> bool:
        """Whether the answer is correct, by the task's own scorer."""
        return sample.error is None and self.task.is_correct(self.problem, sample.text)


Answered = tuple[Request, Timed]


@dataclass(frozen=True)
class Asking:
    """What all requests of a session share."""

    model: str
    sampling: Sampling
    max_tokens: int

    def body(self, arm: Arm, prompt: str, salt: str) -> dict[str, Any]:
        """A streaming request. Prefixes are cached for requests of one salt only."""
        return {
            "model": self.model, "messages": [{"role": "user", "content": prompt}],
            **self.sampling.fields, **self.sampling.extra, **arm.body,
            "seed": self.sampling.seed(0), "max_completion_tokens": self.max_tokens,
            "stream": True, "stream_options": {"include_usage": True}, "cache_salt": salt,
        }  # fmt: skip

    def requests(
        self, tasks: Sequence[Task], arms: Sequence[Arm], count: int, salt: str
    ) -> list[Request]:
        """`count` problems, taken from the tasks in turn, in every arm, in a shuffled order.

        The salt keeps what one run or mode has cached from another that asks the same.
        """
        problems = list(itertools.islice(_in_turn(tasks), count))
        found = [
            Request(arm.name, t, p, self.body(arm, p.prompt, f"{salt}-{i}"))
            for t, p in problems
            for i, arm in enumerate(arms)
        ]
        random.Random(0).shuffle(found)
        return found


def _in_turn(tasks: Iterable[Task]) -> Iterator[tuple[Task, Problem]]:
    rows = zip(*([(task, p) for p in task.problems] for task in tasks), strict=True)
    return itertools.chain.from_iterable(rows)


def answered(requests: Sequence[Request], samples: Mapping[int, Timed]) -> list[Answered]:
    """Every request with its sample; one that the tool does not mention has failed."""
    return [
        (request, replace(samples[i], task=request.task.name, problem=request.problem.id))
        if i in samples
        else (request, request.failed("the tool reported nothing"))
        for i, request in enumerate(requests)
    ]
