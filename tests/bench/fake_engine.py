"""An engine that is none, for what asks engines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from benchmarks.engine import Answer, Done


class FakeEngine:
    """Stands in for an engine: a step of an explicit request takes 1 ms, plus one for every 8.

    Those of other kinds than ours take three times as long, and a prompt takes a second.
    """

    started: ClassVar[list[tuple[str, str, Any]]] = []
    running: ClassVar[list[FakeEngine]] = []
    asked: ClassVar[list[tuple[str, str, list[int], Any]]] = []
    num_mixed: ClassVar[int] = 32

    def __init__(self, kind: str, model: str, **options: Any) -> None:
        self.kind, self.pid = kind, os.getpid()
        self._is_theirs = kind not in ("sottovoce", "http") or options.get("server") == "llama.cpp"
        self.started.append((kind, model, options))
        self.running.append(self)

    def measure(self, prompt: str, lengths: list[int], sampling: Any) -> Done:
        self.asked.append(("theirs" if self._is_theirs else "ours", prompt, lengths, sampling))
        top_n = sampling.get("extra_args", {}).get("routing", {}).get("top_n", 0)
        step = 1e-3 * (1 + len(lengths) / 8) * (1 + top_n / 100) * (3 if self._is_theirs else 1)
        ends = [1 + step * (n - 1) for n in lengths]
        return Done(max(ends), latencies=ends)

    def run(self, prompt: str, lengths: list[int], sampling: Any) -> float:
        return self.measure(prompt, lengths, sampling).seconds

    def ask(self, prompts: list[str], sampling: Any) -> tuple[float, list[Answer]]:
        assert sampling["extra_args"]["include_reasoning_trace"]
        top_n = sampling["extra_args"]["routing"]["top_n"]
        return 1.0, [Answer([1], 0, [min(top_n, self.num_mixed)] * 4)]

    def close(self) -> None:
        self.running.remove(self)


def install(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """Engines that are none, and rows that nobody keeps."""
    monkeypatch.setattr(module, "Engine", FakeEngine)
    monkeypatch.setattr(module, "smollm2_path", lambda: Path("smollm2_path"))
    for name in ("report", "append"):
        monkeypatch.setattr(module, name, lambda *row, **also: None)
    for seen in (FakeEngine.started, FakeEngine.running, FakeEngine.asked):
        seen.clear()
