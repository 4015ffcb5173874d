"""A session of runs: each starts a load tool on requests of its own, and its answers are scored."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from ..quality.arms import Arm
from ..quality.task import Task
from . import aiperf, vllm_bench
from .profiles import Load
from .workload import ROUTE, Answered, Asking, Request

TOOLS: dict[str, Any] = {tool.NAME: tool for tool in (aiperf, vllm_bench)}
# In offline mode AIPerf takes a tokenizer's directory for a name on the hub.
_NOT_FOR_TOOLS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_NUM_WARM_UP = 8


@dataclass(frozen=True)
class Run:
    """One load by one tool, of one mode or of several that share it."""

    profile: str
    load: Load
    tool: str
    arms: tuple[Arm, ...]
    round: int = 1

    @property
    def name(self) -> str:
        """What is measured; the same in every round."""
        modes = self.arms[0].name if len(self.arms) == 1 else "mixed"
        return f"{self.profile}--{self.load.name}--{modes}--{self.tool}"

    @property
    def folder(self) -> str:
        """What tells the run from the others of its session."""
        return f"{self.name}--round-{self.round}"


def runs(
    profile: str,
    loads: Sequence[Load],
    tools: Sequence[str],
    arms: Sequence[Arm],
    mix: str,
    rounds: int = 1,
) -> Iterator[Run]:
    """All runs of a profile: modes apart, together in one load, or both ways.

    Modes apart change their order from level to level and from round to round, so that a machine
    that grows slower or faster does so for all of them.
    """
    for number, (level, load) in itertools.product(range(1, rounds + 1), enumerate(loads)):
        order = arms if (number + level) % 2 else arms[::-1]
        for tool in tools:
            if mix != "together":
                yield from (Run(profile, load, tool, (arm,), number) for arm in order)
            if mix != "apart" and len(arms) > 1 and tool != vllm_bench.NAME:
                yield Run(profile, load, tool, tuple(arms), number)


@dataclass(frozen=True)
class Session:
    """Where and what to ask, and where to keep what the tools leave."""

    base: str  # the server's address, without /v1
    tokenizer: Path
    asking: Asking
    tasks: Sequence[Task]
    num_requests: int  # of each mode in a run
    folder: Path

    def requests(self, arms: Sequence[Arm]) -> list[Request]:
        """The requests of a run, with a prefix cache of their own."""
        return self.asking.requests(self.tasks, arms, self.num_requests, str(time.time_ns()))

    def warm_up(self, arms: Sequence[Arm]) -> None:
        """A few requests of every mode, so that no run pays for what is compiled once.

        Raises:
            RuntimeError: if the server refuses one, with what it said.
        """
        asked = self.requests(arms)[: _NUM_WARM_UP * len(arms)]
        with httpx.Client(timeout=600.0) as client, ThreadPoolExecutor(_NUM_WARM_UP) as pool:
            for reply in pool.map(
                lambda request: client.post(self.base + ROUTE, json=request.body), asked
            ):
                if reply.status_code != 200:
                    raise RuntimeError(f"the server answers {reply.status_code}: {reply.text}")

    def measure(self, run: Run) -> tuple[list[Answered], str]:
        """Do a run; returns its answers, and the tool's version.

        Raises:
            RuntimeError: if the tool fails, with the end of what it printed.
            ValueError: if the tool cannot produce the load.
        """
        tool, out = TOOLS[run.tool], self.folder / run.folder
        out.mkdir(parents=True)
        asked = self.requests(run.arms)
        command = tool.command(self.base, self.tokenizer, run.load, asked, out)
        _call(command, out / "tool.log")
        answers: list[Answered]
        version: str
        answers, version = tool.read(out, asked)
        return answers, version


def _call(command: Sequence[str], log: Path) -> None:
    """Run a tool: on a terminal with its own live progress, else with its output in a file."""
    env = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_TOOLS}
    shown: IO[bytes] | None = None if sys.stdout.isatty() else log.open("wb")
    try:
        done = subprocess.run(command, env=env, stdout=shown, stderr=shown, check=False)
    finally:
        if shown:
            shown.close()
    if done.returncode:
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise RuntimeError(f"{command[0]} ended with {done.returncode}\n{said}")
