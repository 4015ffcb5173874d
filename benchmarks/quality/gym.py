"""Tasks from reasoning-gym, scored by its own scorers."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from sottovoce_training.families import FAMILIES

from .task import Problem, Task, TaskError

_INSTRUCTION = "\n\nEnd with the final answer alone on the last line, after 'Answer:'."


def _family_task(name: str, count: int, split: str) -> Task:
    """A family that the tiny reasoner learns: at its difficulty, worded as in its training."""
    family = FAMILIES[name]
    problems = [
        Problem(f"{split}-{problem.seed}", problem.question, problem.entry)
        for problem in family.problems(split, 0, count)
    ]
    return Task(name, problems, lambda p, answer: family.score(answer, p.reference) == 1.0)


_STATED = re.compile(r"answer(?:\s+is\b\s*:?|\s*:)[ \t]*(\S.*)", re.IGNORECASE)


def final_answer(text: str) -> str:
    """What follows the last `Answer:` or `answer is` on its line, or else the last line."""
    lines = _STATED.findall(text) or text.strip().splitlines()
    found: str = lines[-1].strip("*` ").rstrip("*`. ") if lines else ""
    return found


def _dataset_task(name: str, config: dict[str, Any], count: int) -> Task:
    """Any data set of reasoning-gym, for models that were not trained on its wording."""
    import reasoning_gym

    try:
        dataset: Any = reasoning_gym.create_dataset(name, seed=0, size=count, **config)
    except (ValueError, TypeError, AssertionError) as error:
        raise TaskError(
            f"gym:{name} with {config}: {error}; see reasoning_gym's list of data sets"
        ) from error
    problems = [
        Problem(f"seed0-{i}", dataset[i]["question"] + _INSTRUCTION, dataset[i])
        for i in range(count)
    ]
    score = functools.partial(_score, dataset)
    return Task(name, problems, score)


def _score(dataset: Any, problem: Problem, text: str) -> bool:
    return bool(dataset.score_answer(final_answer(text), problem.reference) == 1.0)


def gym_task(spec: str, count: int, split: str) -> Task:
    """`NAME` of a trained family, or `NAME:{config as JSON}` of any data set ({} for defaults)."""
    name, has_config, text = spec.partition(":")
    if not has_config:
        if name not in FAMILIES:
            raise TaskError(
                f"gym:{name} is not one of {', '.join(FAMILIES)}; for any other data set of "
                f"reasoning_gym write gym:{name}:{{}} with its configuration as JSON"
            )
        return _family_task(name, count, split)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(f"gym:{spec}: the configuration is not JSON ({error})") from error
    return _dataset_task(name, config, count)
