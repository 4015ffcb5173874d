"""One kind of problem: reasoning-gym's generator and scorer, and a solver of ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..chain import Chain

# reasoning-gym seeds problem i of a data set with seed + i, so each split keeps to its own range.
SPLITS: dict[str, range] = {
    "test": range(0, 100_000),
    "validation": range(100_000, 200_000),
    "train": range(1_000_000, 1_000_000_000),
}


@dataclass(frozen=True)
class Problem:
    """A question, its answer and the chain of thought that leads there."""

    family: str
    seed: int
    question: str
    chain: Chain
    entry: Mapping[str, Any] = field(repr=False)  # reasoning-gym's own, which its scorer wants

    @property
    def answer(self) -> str:
        """The solver's answer, in the form that the question asks for."""
        return self.chain.answer


@dataclass(frozen=True)
class Family:
    """A family of problems at one difficulty."""

    name: str
    solve: Callable[[Mapping[str, Any]], Chain]  # of an entry of reasoning-gym
    config: Mapping[str, Any]

    @functools.cached_property
    def _dataset(self) -> Any:
        import reasoning_gym

        return reasoning_gym.create_dataset(self.name, seed=0, size=1, **self.config)

    def problem(self, seed: int) -> Problem:
        """The problem of a seed.

        Raises:
            ValueError: if the solver's answer does not satisfy the family's own scorer.
        """
        entry = self._dataset[seed]  # its data sets are virtual: any index has a problem
        chain = self.solve(entry)
        if self.score(chain.answer, entry) < 1.0:
            raise ValueError(f"{self.name} {seed}: {chain.answer!r} is not {entry['answer']!r}")
        return Problem(self.name, seed, entry["question"].strip(), chain, entry)

    def score(self, answer: str, entry: Mapping[str, Any]) -> float:
        """The family's own score of an answer, 0 to 1."""
        return float(self._dataset.score_answer(answer.strip(), entry))

    def problems(self, split: str, start: int, count: int) -> Iterator[Problem]:
        """`count` problems of a split, from its seed number `start`.

        Raises:
            KeyError, IndexError: if there is no such split, or if it has no such seeds.
        """
        for index in range(start, start + count):
            yield self.problem(SPLITS[split][index])
