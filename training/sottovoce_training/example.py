"""A problem in token ids: prompt, thought, answer, and which step each token of the thought is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from .chain import Chain
from .families import Problem
from .reasoner.tokenizer import END, END_THINK, prompt_of


@dataclass(frozen=True)
class Example:
    """One problem in token ids."""

    prompt: list[int]
    thought: list[int]  # a line a step
    answer: list[int]  # from the marker that ends thinking to the end of the turn
    critical: list[bool]  # a step of the chain each
    lines: list[int]  # the step of each token of the thought


def example_of(
    tokenizer: Any, problem: Problem, is_critical: Callable[[Chain], list[bool]]
) -> Example:
    """Encode a problem; the thought and the answer join as `completion_of` has them."""
    thought = tokenizer(problem.chain.text + "\n", return_offsets_mapping=True)
    breaks = [0, *accumulate(len(step.text) + 1 for step in problem.chain.steps)]
    lines = [sum(start >= end for end in breaks[1:]) for start, _ in thought["offset_mapping"]]
    answer = tokenizer.encode(f"{END_THINK}\n{problem.answer}{END}")
    prompt = tokenizer.encode(prompt_of(problem.question))
    return Example(prompt, thought["input_ids"], answer, is_critical(problem.chain), lines)


def padded(rows: Sequence[Sequence[int]], pad: int, is_left: bool = False) -> torch.Tensor:
    """Rows of ids as int64 [B, longest]."""
    length = max(len(row) for row in rows)
    found = torch.full((len(rows), length), pad, dtype=torch.int64)
    for target, row in zip(found, rows, strict=True):
        where = slice(length - len(row), length) if is_left else slice(0, len(row))
        target[where] = torch.tensor(row)
    return found
