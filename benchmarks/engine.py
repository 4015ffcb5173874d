"""An engine in a process of its own, so that two kinds can be measured in turn.

Every kind is a program that reads one JSON line per job on stdin and answers with one on stdout
(`answer_jobs`). Run as a program, this module is vLLM, offline.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_KERNELS_ONLY = "SOTTOVOCE_BENCH_KERNELS_ONLY"
_LLAMA = Path(".cache/llama-venv/bin/python")
_TIMEOUT_S = 900.0  # of a start and of a batch; what takes longer hangs
_CLOSE_S = 120.0


@dataclass(frozen=True)
class Kind:
    """A program, what it sets, and whether it runs beside llama.cpp; the rest is the caller's."""

    program: str = "benchmarks.engine"
    env: Mapping[str, str] = field(default_factory=dict)
    is_llama: bool = False


# `mrv2` is Model Runner V2 on our CPU kernels, without the hooks of the plugin.
KINDS: dict[str, Kind] = {
    "sottovoce": Kind(),
    "v1": Kind(env={"VLLM_PLUGINS": "none", "VLLM_USE_V2_MODEL_RUNNER": "0"}),
    "mrv2": Kind(env={"VLLM_PLUGINS": "none", _KERNELS_ONLY: "1"}),
    "llama.cpp": Kind("benchmarks.peers.llama_cpp", is_llama=True),
    "transformers": Kind("benchmarks.peers.loop"),
    "http": Kind("benchmarks.peers.http"),
}


def llama_python() -> str:
    """The interpreter beside llama.cpp.

    Raises:
        RuntimeError: if it is not installed.
    """
    if not _LLAMA.exists():
        raise RuntimeError(f"no {_LLAMA}: `make bench-peers` installs it")
    return str(_LLAMA)


@dataclass(frozen=True)
class Answer:
    """What was generated for one prompt."""

    token_ids: list[int]
    num_skipped: int  # layer executions that shortcuts stood in for
    num_terms: list[int] = field(default_factory=list)  # of each soft step, if it is traced


@dataclass(frozen=True)
class Done:
    """A batch that an engine has run."""

    seconds: float
    num_preemptions: int = 0  # 0 of an engine with `disable_log_stats`
    answers: list[Answer] = field(default_factory=list)  # of vLLM alone
    # Seconds from the batch's submission to the end of each request, in no order.
    latencies: list[float] = field(default_factory=list)


class Engine:
    """A running engine of one kind."""

    def __init__(
        self, kind: str, model: str, *, timeout_s: float = _TIMEOUT_S, **options: Any
    ) -> None:
        found = KINDS[kind]
        env = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", **found.env}
        env.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        python = llama_python() if found.is_llama else sys.executable
        self.kind, self._timeout_s = kind, timeout_s
        self._process = subprocess.Popen(
            [python, "-m", found.program, json.dumps({"model": model, **options})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()  # None: there will be no more
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The program's process, which may have children."""
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith("@"):
                    self._lines.put(line[1:])
        self._lines.put(None)

    def _read(self) -> Any:
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            said = f"the {self.kind} engine said nothing for {self._timeout_s:g} s"
            raise TimeoutError(f"{said}; run it alone to see why") from None
        if line is None:
            raise RuntimeError(f"the {self.kind} engine stopped; run it alone to see why")
        return json.loads(line)

    def measure(self, prompt: str, lengths: Sequence[int], sampling: Mapping[str, Any]) -> Done:
        """Run a batch of one prompt, each request with its own output length."""
        each = [{**sampling, "max_tokens": n, "ignore_eos": True} for n in lengths]
        return self._generate([prompt] * len(each), each)

    def run(self, prompt: str, lengths: Sequence[int], sampling: Mapping[str, Any]) -> float:
        """Seconds that such a batch takes."""
        return self.measure(prompt, lengths, sampling).seconds

    def profile(self, prompt: str, lengths: Sequence[int], sampling: Mapping[str, Any]) -> None:
        """Run such a batch under the profiler of the option `profiler_config`, which keeps a trace."""
        self._send({"profile": "start"})
        self.measure(prompt, lengths, sampling)
        self._send({"profile": "stop"})

    def ask(
        self, prompts: Sequence[str], sampling: Mapping[str, Any]
    ) -> tuple[float, list[Answer]]:
        """Seconds that a batch of prompts takes, and their answers, each as long as it is."""
        done = self._generate(prompts, [sampling] * len(prompts))
        return done.seconds, done.answers

    def _generate(self, prompts: Sequence[str], sampling: Sequence[Mapping[str, Any]]) -> Done:
        job = {"prompts": list(prompts), "sampling": [dict(s) for s in sampling]}
        done = self._send(job)
        return Done(**{**done, "answers": [Answer(*answer) for answer in done.get("answers", ())]})

    def _send(self, job: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Stop the engine; one that does not stop by itself is killed, with its children."""
        import psutil

        assert self._process.stdin is not None
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.pid).children(recursive=True)
        with suppress(OSError):  # it has stopped before
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_CLOSE_S)
        except subprocess.TimeoutExpired:
            for process in (*family, self._process):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
        self._listener.join(timeout=_CLOSE_S)


def answer_jobs(
    run: Callable[[list[str], list[dict[str, Any]]], Mapping[str, Any]],
    profile: Callable[[str], None] | None = None,
) -> None:
    """A program's loop: the fields of `Done` for prompts and the sampling of each, until the input ends.

    A job may also `start` or `stop` a profile.
    """
    print("@1", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if profile and "profile" in job:
            profile(job["profile"])
            print("@1", flush=True)
            continue
        print("@" + json.dumps(run(job["prompts"], job["sampling"])), flush=True)


def _num_preemptions(llm: Any, options: dict[str, Any]) -> int:
    if options.get("disable_log_stats"):
        return 0
    return sum(int(m.value) for m in llm.get_metrics() if m.name == "vllm:num_preemptions")


def _answer(choice: Any) -> tuple[list[int], int, list[int]]:
    steps = getattr(choice, "routing", None) or ()  # stock vLLM has no such field
    num_terms = [len(s.alternatives) for s in steps if s.route == "soft" and s.alternatives]
    return list(choice.token_ids), sum(step.num_skipped for step in steps), num_terms


def _finish(llm: Any, started: float) -> tuple[list[Any], list[float]]:
    """What was enqueued, in that order, and the seconds until each had ended, in the order of ends.

    The loop of `LLM.generate`, with a clock.
    """
    outputs, latencies = [], []
    while llm.llm_engine.has_unfinished_requests():
        for output in llm.llm_engine.step():
            if output.finished:
                outputs.append(output)
                latencies.append(time.perf_counter() - started)
    return sorted(outputs, key=lambda output: int(output.request_id)), latencies


def _serve(options: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(**options)

    def profile(verb: str) -> None:
        llm.start_profile() if verb == "start" else llm.stop_profile()

    def run(prompts: list[str], sampling: list[dict[str, Any]]) -> dict[str, Any]:
        params = [SamplingParams(**each) for each in sampling]
        before, started = _num_preemptions(llm, options), time.perf_counter()
        llm.enqueue(prompts, params, use_tqdm=False)
        outputs, latencies = _finish(llm, started)
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "num_preemptions": _num_preemptions(llm, options) - before,
            "answers": [_answer(output.outputs[0]) for output in outputs],
            "latencies": latencies,
        }

    answer_jobs(run, profile)


def _install_kernels() -> None:
    from sottovoce_router import cpu_compile, cpu_engine, cpu_process

    for part in (cpu_engine, cpu_process, cpu_compile):
        part.install()


# At import, for the engine's own process, which is spawned, imports this module anew.
if os.environ.get(_KERNELS_ONLY):
    _install_kernels()

if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
