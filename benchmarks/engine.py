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
from typing import Any

# What each kind sets; every other variable is the caller's.
KINDS: dict[str, dict[str, str]] = {
    "sottovoce": {},
    "v1": {"VLLM_PLUGINS": "none", "VLLM_USE_V2_MODEL_RUNNER": "0"},
}


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
        assert self._process.stdin is not None
        job = {"prompt": prompt, "lengths": list(lengths), "sampling": dict(sampling)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """Stop the engine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)


def _serve(options: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(**options)
    print("@1", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        params = [
            SamplingParams(**job["sampling"], max_tokens=n, ignore_eos=True) for n in job["lengths"]
        ]
        started = time.perf_counter()
        llm.generate([job["prompt"]] * len(params), params, use_tqdm=False)
        print("@" + json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
