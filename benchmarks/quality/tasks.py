"""Tasks by what the command line calls them."""

from __future__ import annotations

from pathlib import Path

from .files import FORMATS, file_task
from .gym import gym_task
from .task import Task, TaskError


def load_task(spec: str, count: int, split: str = "test") -> Task:
    """`gym:NAME`, `gym:NAME:{JSON}` or `FORMAT:FILE`, with at most `count` problems.

    Raises:
        TaskError: if there is no such task, or its file cannot be read.
    """
    kind, _, rest = spec.partition(":")
    if kind == "gym":
        return gym_task(rest, count, split)
    if kind in FORMATS:
        return file_task(kind, Path(rest), count)
    raise TaskError(f"{spec!r}: give gym:NAME or FORMAT:FILE, FORMAT one of {', '.join(FORMATS)}")
