"""Asks an endpoint all problems of a run, many at a time, and keeps every answer as it comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from openai import APIError, AsyncOpenAI
from tqdm import tqdm

from .arms import Arm, Sampling
from .task import Problem, Task


@dataclass(frozen=True)
class Sample:
    """One answer. Counts are None where the endpoint does not report them; times are in seconds."""

    task: str
    problem: str
    sample: int
    text: str
    thinking: int | None
    soft: int | None
    switches: int | None
    tokens: int
    first_answer: float | None  # from the request to the first character of the answer
    seconds: float
    started: float  # Unix time
    finish: str | None
    error: str | None = None
    latent: int | None = None  # steps, which `thinking` does not count
    layers_run: int | None = None
    layers_skipped: int | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells this sample from every other of its run."""
        return self.task, self.problem, self.sample


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how hard."""

    url: str
    model: str
    api_key: str = "none"
    concurrency: int = 32
    max_tokens: int = 512
    timeout_s: float = 600.0


def read_samples(path: Path) -> list[Sample]:
    """The answers that a file holds; the last line may be cut off by an interruption."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [Sample(**json.loads(line)) for line in lines[:-1]]


def _drop_partial_line(path: Path) -> None:
    if path.exists():
        text = path.read_text()
        path.write_text(text[: text.rfind("\n") + 1])


def _jobs(tasks: Iterable[Task], num_samples: int) -> Iterator[tuple[Task, Problem, int]]:
    for number in range(num_samples):
        for task in tasks:
            for problem in task.problems:
                yield task, problem, number


class Collector:
    """One arm's answers, appended to a file; a second run asks only what is missing or failed."""

    def __init__(self, endpoint: Endpoint, arm: Arm, sampling: Sampling, path: Path) -> None:
        self._endpoint, self._arm, self._sampling, self._path = endpoint, arm, sampling, path

    async def collect(self, tasks: Sequence[Task], num_samples: int) -> list[Sample]:
        """Ask what is missing; returns all samples, failures included."""
        _drop_partial_line(self._path)
        good = [s for s in read_samples(self._path) if s.error is None]
        have = {sample.key for sample in good}
        jobs = [j for j in _jobs(tasks, num_samples) if (j[0].name, j[1].id, j[2]) not in have]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        gate, client = asyncio.Semaphore(self._endpoint.concurrency), self._client()
        with (
            self._path.open("a") as out,
            tqdm(total=len(jobs) + len(good), initial=len(good), desc=self._arm.name) as bar,
        ):

            async def one(task: Task, problem: Problem, number: int) -> Sample:
                async with gate:
                    sample = await self._ask(client, task, problem, number)
                out.write(json.dumps(asdict(sample)) + "\n")
                out.flush()
                bar.update()
                return sample

            fresh = await asyncio.gather(*(one(*job) for job in jobs))
        await client.close()
        return [*good, *fresh]

    def _client(self) -> AsyncOpenAI:
        end = self._endpoint
        return AsyncOpenAI(base_url=end.url, api_key=end.api_key, timeout=end.timeout_s)

    async def _ask(self, client: AsyncOpenAI, task: Task, problem: Problem, number: int) -> Sample:
        blank = Sample(
            task=task.name, problem=problem.id, sample=number, text="", thinking=None, soft=None,
            switches=None, tokens=0, first_answer=None, seconds=0.0, started=time.time(),
            finish=None,
        )  # fmt: skip
        clock = time.perf_counter()
        try:
            sample = await self._stream(client, problem, blank, clock)
        except (APIError, httpx.HTTPError) as error:  # the latter when a stream breaks off
            sample = replace(blank, error=f"{type(error).__name__}: {error}")
        return replace(sample, seconds=round(time.perf_counter() - clock, 4))

    async def _stream(
        self, client: AsyncOpenAI, problem: Problem, sample: Sample, clock: float
    ) -> Sample:
        stream = await client.chat.completions.create(
            model=self._endpoint.model,
            messages=[{"role": "user", "content": problem.prompt}],
            max_tokens=self._endpoint.max_tokens,
            seed=self._sampling.seed(sample.sample),
            stream=True,
            stream_options={"include_usage": True},
            extra_body={**self._sampling.extra, **self._arm.body},
            **self._sampling.fields,
        )
        parts: list[str] = []
        usage: dict[str, Any] = {}
        first, finish = None, None
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    first = first or time.perf_counter() - clock
                    parts.append(choice.delta.content)
                finish = choice.finish_reason or finish
            usage = chunk.usage.model_dump() if chunk.usage else usage
        details = usage.get("completion_tokens_details") or {}
        return replace(
            sample, text="".join(parts), thinking=details.get("reasoning_tokens"),
            soft=details.get("soft_steps"), switches=details.get("switches"),
            tokens=usage.get("completion_tokens", 0), finish=finish,
            first_answer=None if first is None else round(first, 4),
            latent=details.get("latent_steps"), layers_run=details.get("layers_run"),
            layers_skipped=details.get("layers_skipped"),
        )  # fmt: skip
