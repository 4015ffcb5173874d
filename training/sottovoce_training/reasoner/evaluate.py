"""Greedy accuracy in plain transformers, for the training log; the harness measures the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..families import FAMILIES, Problem
from .tokenizer import END, END_THINK, prompt_of


@dataclass(frozen=True)
class Result:
    """How one problem went."""

    family: str
    is_correct: bool
    num_thinking: int  # tokens up to the marker that ends thinking


def validation_problems(per_family: int, split: str = "validation") -> list[Problem]:
    """The first problems of every family in a split."""
    return [p for family in FAMILIES.values() for p in family.problems(split, 0, per_family)]


Writer = Callable[[list[str]], list[list[int]]]  # prompts to the tokens written after each


def score(
    write: Writer, tokenizer: Any, problems: Sequence[Problem], batch_size: int = 128
) -> list[Result]:
    """Have every problem answered, and score the answers with the families' own scorers."""
    results = []
    for i in range(0, len(problems), batch_size):
        part = problems[i : i + batch_size]
        new = write([prompt_of(problem.question) for problem in part])
        results += [_result(tokenizer, *pair) for pair in zip(part, new, strict=True)]
    return results


@torch.inference_mode()
def evaluate(
    model: Any,
    tokenizer: Any,
    problems: Sequence[Problem],
    max_tokens: int = 384,
    batch_size: int = 128,
) -> list[Result]:
    """Answer every problem greedily with transformers' own generation, and score the answers."""

    def write(prompts: list[str]) -> list[list[int]]:
        inputs = left_padded(tokenizer, prompts)
        out = model.generate(
            **inputs, max_new_tokens=max_tokens, do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
        )  # fmt: skip
        new: list[list[int]] = out[:, inputs.input_ids.shape[1] :].tolist()
        return new

    model.eval()
    results = score(write, tokenizer, problems, batch_size)
    model.train()
    return results


def left_padded(tokenizer: Any, prompts: list[str]) -> Any:
    """`input_ids` and `attention_mask`, int64 [B, L], of prompts that all end in the last column."""
    return tokenizer(
        prompts,
        return_tensors="pt",
        padding=True,
        padding_side="left",
        return_token_type_ids=False,
    )


def _result(tokenizer: Any, problem: Problem, tokens: list[int]) -> Result:
    marker = tokenizer.convert_tokens_to_ids(END_THINK)
    if marker not in tokens:
        return Result(problem.family, False, len(tokens))
    where = tokens.index(marker)
    answer = tokenizer.decode(tokens[where + 1 :], skip_special_tokens=True)
    score = FAMILIES[problem.family].score(answer, problem.entry)
    return Result(problem.family, score == 1.0, where)


def accuracy(results: Sequence[Result]) -> dict[str, float]:
    """The share of correct answers per family, and over all problems as `all`."""
    found = {"all": sum(r.is_correct for r in results) / len(results)}
    for name in FAMILIES:
        mine = [r.is_correct for r in results if r.family == name]
        if mine:
            found[name] = sum(mine) / len(mine)
    return found
