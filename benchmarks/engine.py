"""An offline vLLM engine in a process of its own, so that two kinds can be measured in turn.

Run as a program it reads one JSON line per job on stdin and answers with one on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_KERNELS_ONLY = "SOTTOVOCE_BENCH_KERNELS_ONLY"
# What each kind sets; every other variable is the caller's. `mrv2` is Model Runner V2 on our CPU
# kernels, without the hooks of the plugin.
KINDS: dict[str, dict[str, str]] = {
    "sottovoce": {},
    "v1": {"VLLM_PLUGINS": "none", "VLLM_USE_V2_MODEL_RUNNER": "0"},
    "mrv2": {"VLLM_PLUGINS": "none", _KERNELS_ONLY: "1"},
    "llama.cpp": {},
}
_LLAMA = Path(".cache/llama-venv/bin/python")


def _program(kind: str) -> list[str]:
    if kind != "llama.cpp":
        return [sys.executable, "-m", "benchmarks.engine"]
    if not _LLAMA.exists():
        raise RuntimeError(f"no {_LLAMA}: `make bench-peers` installs it")
    return [str(_LLAMA), str(Path(__file__).parent / "peers" / "llama_cpp.py")]


@dataclass(frozen=True)
class Answer:
    """What was generated for one prompt."""

    token_ids: list[int]
    num_skipped: int  # layer executions that shortcuts stood in for


@dataclass(frozen=True)
class Done:
    """A batch that an engine has run."""

    seconds: float
    num_preemptions: int  # 0 of an engine with `disable_log_stats`
    answers: list[Answer] = field(default_factory=list)  # none of llama.cpp


class Engine:
    """A running engine of one kind."""

    def __init__(self, kind: str, model: str, **options: Any) -> None:
        env = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", **KINDS[kind]}
        env.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        self.kind = kind
        self._process = subprocess.Popen(
            [*_program(kind), json.dumps({"model": model, **options})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
        )  # fmt: skip
        self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise RuntimeError(f"the {self.kind} engine stopped; run it alone to see why")

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

    @property
    def pid(self) -> int:
        """Of the process that has the engine's own for a child."""
        return self._process.pid

    def ask(
        self, prompts: Sequence[str], sampling: Mapping[str, Any]
    ) -> tuple[float, list[Answer]]:
        """Seconds that a batch of prompts takes, and their answers, each as long as it is."""
        done = self._generate(prompts, [sampling] * len(prompts))
        return done.seconds, done.answers

    def _generate(self, prompts: Sequence[str], sampling: Sequence[Mapping[str, Any]]) -> Done:
        job = {"prompts": list(prompts), "sampling": [dict(s) for s in sampling]}
        seconds, num_preemptions, answers = self._send(job)
        return Done(seconds, num_preemptions, [Answer(*answer) for answer in answers])

    def _send(self, job: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Stop the engine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)


def _num_preemptions(llm: Any, options: dict[str, Any]) -> int:
    if options.get("disable_log_stats"):
        return 0
    return sum(int(m.value) for m in llm.get_metrics() if m.name == "vllm:num_preemptions")


def _answer(choice: Any) -> tuple[list[int], int]:
    steps = getattr(choice, "routing", None) or ()  # stock vLLM has no such field
    return list(choice.token_ids), sum(step.num_skipped for step in steps)


def _serve(options: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(**options)
    print("@1", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "profile" in job:
            llm.start_profile() if job["profile"] == "start" else llm.stop_profile()
            print("@1", flush=True)
            continue
        params = [SamplingParams(**sampling) for sampling in job["sampling"]]
        before, started = _num_preemptions(llm, options), time.perf_counter()
        outputs = llm.generate(job["prompts"], params, use_tqdm=False)
        seconds = time.perf_counter() - started
        answers = [_answer(output.outputs[0]) for output in outputs]
        print(
            "@" + json.dumps([seconds, _num_preemptions(llm, options) - before, answers]),
            flush=True,
        )


def _install_kernels() -> None:
    from sottovoce_router import cpu_compile, cpu_engine, cpu_process

    for part in (cpu_engine, cpu_process, cpu_compile):
        part.install()


# At import, for the engine's own process, which is spawned, imports this module anew.
if os.environ.get(_KERNELS_ONLY):
    _install_kernels()

if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
