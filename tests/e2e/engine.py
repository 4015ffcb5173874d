"""Engines in processes of their own: the plugin patches the process it is loaded into.

A host process (`host.py`) imports vLLM once and then builds one engine after another, so that a new
configuration costs seconds. Messages are pickles over a pipe.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import torch

from e2e.steps import Step

ON_GPU = torch.cuda.is_available()
_TESTS = Path(__file__).parents[1]
_UNINHERITED = ("TRITON_INTERPRET", "VLLM_PLUGINS", "VLLM_USE_V2_MODEL_RUNNER")


@dataclass(frozen=True)
class Host:
    """What must be settled before vLLM is imported."""

    plugins: str | None = None  # VLLM_PLUGINS; None loads every plugin, and so ours
    interprets: bool = False  # Triton kernels in the interpreter, as a GPU would run them
    spawns: bool = False  # the engine core and its worker in processes of their own, as served

    def environment(self) -> dict[str, str]:
        """The host's environment."""
        env = {k: v for k, v in os.environ.items() if k not in _UNINHERITED}
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if self.spawns else "0"
        env["VLLM_NO_USAGE_STATS"] = "1"
        # More threads gain little at these sizes and stall on a machine that is shared.
        env |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if self.plugins is not None:
            env["VLLM_PLUGINS"] = self.plugins
        if ON_GPU:  # float32 products in float32, and vLLM's own filters of the distribution
            env |= {"TRITON_F32_DEFAULT": "ieee", "VLLM_USE_FLASHINFER_SAMPLER": "0"}
        elif self.interprets:
            env["TRITON_INTERPRET"] = "1"
        return env


PLAIN = Host()
SERVED = Host(spawns=True)
INTERPRETED = Host(interprets=True)
STOCK = Host(plugins="none", interprets=True)


@dataclass(frozen=True)
class Prompt:
    """One request, and after how many engine steps it arrives."""

    token_ids: tuple[int, ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    arrives: int = 0
    streams: bool = False


@dataclass(frozen=True)
class Choice:
    """One generated sequence."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    steps: list[Step]  # empty where no record was asked for
    logprobs: list[dict[int, float]]  # empty where none were asked for


@dataclass(frozen=True)
class Result:
    """What became of one request."""

    choices: tuple[Choice, ...]
    num_cached_tokens: int

    @property
    def only(self) -> Choice:
        """The choice of a request that asked for one."""
        (choice,) = self.choices
        return choice


@dataclass(frozen=True)
class Batch:
    """The results in the order of the prompts, and what the scheduler counted meanwhile."""

    results: tuple[Result, ...]
    counters: dict[str, float]

    @property
    def num_preemptions(self) -> int:
        """Preemptions while the batch ran."""
        return int(self.counters["vllm:num_preemptions"])


class EngineError(RuntimeError):
    """The host reported an exception or died."""


class EngineProcess:
    """The test's end of the pipe to one host."""

    def __init__(self, host: Host, log: Path) -> None:
        self._log = log
        self._pipe, theirs = Pipe()
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "e2e.host"),
                    *(str(theirs.fileno()), str(int(host.plugins is not None))),
                ],
                cwd=_TESTS,
                env=host.environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        theirs.close()

    def call(self, command: str, *arguments: Any) -> Any:
        """Run a command of the host and return its result."""
        try:
            self._pipe.send((command, arguments))
            ok, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            tail = self._log.read_text(errors="replace")[-4000:]
            raise EngineError(f"the engine's host died; the end of {self._log}:\n{tail}") from error
        if not ok:
            raise EngineError(value)
        return value

    def close(self) -> None:
        """End the host."""
        self._pipe.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Engines:
    """One engine at a time: asking for another configuration stops the one that runs."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._process: EngineProcess | None = None
        self._host: Host | None = None
        self._options: dict[str, Any] | None = None

    def start(self, model: Path, host: Host = PLAIN, **options: Any) -> Engine:
        """The engine of a model and options; the running one if it is the same."""
        options = {"model": str(model), **options}
        if host != self._host or self._process is None:
            self.close()
            self._process, self._host = EngineProcess(host, self._log_dir / "engine.log"), host
        if options != self._options:
            self._options = None
            self._process.call("start", options)
            self._options = options
        return Engine(self._process)

    def close(self) -> None:
        """Stop the engine and its host."""
        if self._process is not None:
            self._process.close()
        self._process = self._host = self._options = None


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    process: EngineProcess

    def run(self, prompts: list[Prompt]) -> Batch:
        """Run requests together, each joining at its step."""
        batch: Batch = self.process.call("run", prompts)
        return batch

    def run_alone(self, prompts: list[Prompt]) -> list[Result]:
        """Run requests one after another."""
        return [self.run([Prompt(p.token_ids, p.sampling)]).results[0] for p in prompts]

    def num_compiled(self) -> int:
        """Models that this engine's process built to be compiled, those of earlier engines included."""
        return int(self.process.call("num_compiled"))

    def forget_prefixes(self) -> None:
        """Empty the prefix cache."""
        assert self.process.call("forget_prefixes")
