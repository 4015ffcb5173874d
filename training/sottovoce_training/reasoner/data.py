"""Training batches: problems of all families, generated as they are needed, of similar length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..families import FAMILIES, SPLITS, Problem
from .tokenizer import completion_of, prompt_of

# Families are drawn by these weights at first; what is learnt late is seen more often.
WEIGHTS: dict[str, float] = {
    "chain_sum": 1.0, "basic_arithmetic": 1.5, "leg_counting": 1.0, "gcd": 1.5,
    "number_sorting": 1.0, "family_relationships": 1.0, "course_schedule": 1.0, "countdown": 1.5,
}  # fmt: skip
IGNORED = -100  # the label of tokens that carry no loss: prompts and padding


@dataclass(frozen=True)
class Batch:
    """int64 [B, L] token ids, padded on the right, and labels, which are ids or IGNORED."""

    input_ids: torch.Tensor
    labels: torch.Tensor


def held_out_questions(per_family: int) -> set[str]:
    """The questions of the test split, which training skips should a seed of its own repeat one."""
    return {
        problem.question
        for family in FAMILIES.values()
        for problem in family.problems("test", 0, per_family)
    }


def focused(accuracy: Mapping[str, float]) -> dict[str, float]:
    """Weights for later: the more of a family's validation problems fail, the more often it is seen."""
    return {name: 0.5 + 2.0 * (1.0 - accuracy[name]) for name in WEIGHTS}


class Source:
    """An endless, seeded stream of problems; its state is one number and the weights."""

    def __init__(self, held_out: set[str], seed: int = 0) -> None:
        self._held_out, self._first = held_out, 1_000_000 * seed
        self.num_pools = 0  # how many pools of problems were drawn so far
        self.weights = dict(WEIGHTS)

    def _problem(self, rng: random.Random) -> Problem:
        (name,) = rng.choices(list(self.weights), list(self.weights.values()))
        while True:
            problem = FAMILIES[name].problem(rng.choice(SPLITS["train"]))
            if problem.question not in self._held_out:
                return problem

    def draw(self, size: int) -> tuple[list[Problem], random.Random]:
        """The next `size` problems, and the pool's generator for what else is drawn by chance."""
        rng = random.Random(self._first + self.num_pools)
        self.num_pools += 1
        return [self._problem(rng) for _ in range(size)], rng


class Stream(Source):
    """Training batches of a limited number of tokens each."""

    def __init__(self, tokenizer: Any, held_out: set[str], tokens_per_batch: int) -> None:
        super().__init__(held_out)
        self._tokenizer, self._tokens_per_batch = tokenizer, tokens_per_batch

    def _encode(self, problem: Problem) -> tuple[list[int], int]:
        encode = self._tokenizer.encode
        prompt = encode(prompt_of(problem.question))
        return prompt + encode(completion_of(problem.chain.text, problem.answer)), len(prompt)

    def pool(self, size: int = 1024) -> list[Batch]:
        """The batches of the next `size` problems, in random order."""
        problems, rng = self.draw(size)
        examples = [self._encode(problem) for problem in problems]
        examples.sort(key=lambda example: len(example[0]))
        batches, group = [], list[tuple[list[int], int]]()
        for example in examples:
            if group and len(example[0]) * (len(group) + 1) > self._tokens_per_batch:
                batches.append(_pad(group, self._tokenizer.pad_token_id))
                group = []
            group.append(example)
        batches.append(_pad(group, self._tokenizer.pad_token_id))
        rng.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.pool()


def _pad(group: list[tuple[list[int], int]], pad_id: int) -> Batch:
    length = max(len(ids) for ids, _ in group)
    input_ids = torch.full((len(group), length), pad_id, dtype=torch.int64)
    labels = torch.full((len(group), length), IGNORED, dtype=torch.int64)
    for row, (ids, num_prompt) in enumerate(group):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, num_prompt : len(ids)] = input_ids[row, num_prompt : len(ids)]
    return Batch(input_ids, labels)
