"""A task: problems, each a prompt, and the rule that says whether an answer is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One question, as it is sent, and what its scorer compares an answer with."""

    id: str
    prompt: str
    reference: Any = field(repr=False)


@dataclass(frozen=True)
class Task:
    """Problems with one scorer, which gets a problem and the text of an answer."""

    name: str
    problems: Sequence[Problem]
    is_correct: Callable[[Problem, str], bool]


class TaskError(ValueError):
    """A task that cannot be loaded: the message names the file or family, and the remedy."""
