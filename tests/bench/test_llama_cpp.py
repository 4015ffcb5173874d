"""llama.cpp's loop: what it decodes, and in which order it samples."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmarks import engine as engines

PROMPT = "prompt"


def test_llama_cpp_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_LLAMA", tmp_path / "python")
    with pytest.raises(RuntimeError, match="make bench-peers"):
        engines.Engine("llama.cpp", "m")


class _Context:
    """Stands in for llama.cpp's context: remembers which positions each sequence holds."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.sizes: list[int] = []

    def memory_seq_rm(self, seq: int, start: int, end: int) -> None:
        self.held[seq] = 0

    def decode(self, batch: list[tuple[int, int, list[int], bool]]) -> None:
        self.sizes.append(len(batch))
        for _, position, (seq,), _ in batch:
            assert position == self.held[seq], "no gap, nothing twice"
            self.held[seq] += 1


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The worker's module, without the library that it drives."""
    package, library = ModuleType("cyllama"), ModuleType("cyllama.llama")
    library.llama_cpp = ModuleType("cyllama.llama.llama_cpp")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cyllama", package)
    monkeypatch.setitem(sys.modules, "cyllama.llama", library)
    llama_cpp = importlib.import_module("benchmarks.peers.llama_cpp")  # anew

    yield llama_cpp
    del sys.modules["benchmarks.peers.llama_cpp"]


def test_llama_cpp_refills_its_sequences(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Batch(list[Any]):
        n_tokens = property(len)

        def add(self, *entry: Any) -> None:
            self.append(entry)

    class Sampler:
        def sample(self, context: Any, at: int) -> int:
            assert runner._batch[at][3], "a place with logits"
            return 1

    monkeypatch.setattr(llama, "_sampler", lambda sampling, seed: Sampler())
    vocabulary = type("V", (), {"tokenize": staticmethod(lambda *_, **__: [1, 2, 3])})
    runner = llama.Llama.__new__(llama.Llama)
    runner._model = type("M", (), {"get_vocab": staticmethod(lambda: vocabulary)})
    runner._context, runner._batch, runner._num_seqs = _Context(), Batch(), 2
    clock = runner._context.sizes
    monkeypatch.setattr(llama.time, "perf_counter", lambda: 10 + len(clock))
    # Steps at whose end a request has ended; the second first.
    assert runner.run(PROMPT, [4, 2, 3, 1], {"temperature": 0.0}) == [2, 4, 5, 5]
    # Two prompts of three tokens; a step of both; a step beside a prompt; and so on.
    assert runner._context.sizes == [6, 2, 4, 2, 4]


def test_llama_cpp_samples_in_the_order_of_vllm(llama: Any) -> None:
    chain: list[str] = []

    class Sampler:
        def __init__(self, params: Any) -> None: ...

        def __getattr__(self, name: str) -> Any:
            return lambda *_: chain.append(name)

    llama.llama.LlamaSampler = Sampler
    llama.llama.LlamaSamplerChainParams = object
    llama._sampler({"temperature": 0.6, "top_k": 3, "top_p": 0.9, "min_p": 0.1}, 0)
    assert chain == ["add_temp", "add_top_k", "add_top_p", "add_min_p", "add_dist"]
