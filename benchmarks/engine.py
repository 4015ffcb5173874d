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
from dataclasses import dataclass
from typing import Any

# What each kind sets; every other variable is the caller's.
KINDS: dict[str, dict[str, str]] = {
    "sottovoce": {},
    "v1": {"VLLM_PLUGINS": "none", "VLLM_USE_V2_MODEL_RUNNER": "0"},
}


@dataclass(frozen=True)
class Answer:
    """What was generated for one prompt."""

    token_ids: list[int]
    num_skipped: int  # layer executions that shortcuts stood in for


class Engine:
    """A running engine of one kind."""

    def __init__(self, kind: str, model: str, **options: Any) -> None:
        env = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", **KINDS[kind]}
        env.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine", json.dumps({"model": model, **options})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
        )  # fmt: skip
        self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise RuntimeError(f"the {self.kind} engine stopped; run it alone to see why")

    def run(self, prompt: str, lengths: Sequence[int], sampling: Mapping[str, Any]) -> float:
        """Seconds that a batch of one prompt takes, each request with its own output length."""
        each = [{**sampling, "max_tokens": n, "ignore_eos": True} for n in lengths]
        return self._generate([prompt] * len(each), each)[0]

    def ask(
        self, prompts: Sequence[str], sampling: Mapping[str, Any]
    ) -> tuple[float, list[Answer]]:
        """Seconds that a batch of prompts takes, and their answers, each as long as it is."""
        return self._generate(prompts, [sampling] * len(prompts))

    def _generate(
        self, prompts: Sequence[str], sampling: Sequence[Mapping[str, Any]]
    ) -> tuple[float, list[Answer]]:
        assert self._process.stdin is not None
        job = {"prompts": list(prompts), "sampling": [dict(s) for s in sampling]}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        seconds, answers = self._read()
        return float(seconds), [Answer(*answer) for answer in answers]

    def close(self) -> None:
        """Stop the engine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)


def _answer(choice: Any) -> tuple[list[int], int]:
    steps = getattr(choice, "routing", None) or ()  # stock vLLM has no such field
    return list(choice.token_ids), sum(step.num_skipped for step in steps)


def _serve(options: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(**options)
    print("@1", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        params = [SamplingParams(**sampling) for sampling in job["sampling"]]
        started = time.perf_counter()
        outputs = llm.generate(job["prompts"], params, use_tqdm=False)
        seconds = time.perf_counter() - started
        answers = [_answer(output.outputs[0]) for output in outputs]
        print("@" + json.dumps([seconds, answers]), flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
