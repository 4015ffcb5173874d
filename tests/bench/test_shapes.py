"""Benchmarks of random weights: what an engine is given, and what it is asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import run, shapes

SHAPE = "llama-3.1-8b"


def test_a_shape_is_a_folder_that_a_tokenizer_reads() -> None:
    from transformers import AutoConfig, AutoTokenizer

    with shapes.model_of(SHAPE) as folder:
        config: Any = AutoConfig.from_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        assert (config.num_hidden_layers, config.vocab_size) == (32, 128256)
        assert len(tokenizer(shapes.PROMPT).input_ids) == 1
    assert not Path(folder).exists()


def test_an_engine_of_a_shape_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    started: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []

    class FakeEngine:
        def __init__(self, kind: str, model: str, **options: Any) -> None:
            started.append(options)
            assert json.loads((Path(model) / "config.json").read_text())["vocab_size"] == 128256

        def run(self, prompt: str, lengths: list[int], sampling: dict[str, Any]) -> float:
            asked.append((prompt, sampling))
            assert lengths == [7] * 3
            return 1.0

        def close(self) -> None: ...

    monkeypatch.setattr(run, "Engine", FakeEngine)
    monkeypatch.setattr(run, "report", lambda *row: rows.append(row[1]))
    more = ["--engine-args", '{"max_num_seqs": 3}', "--rounds", "1", "--steps", "7", "--sizes", "3"]
    monkeypatch.setattr(
        sys, "argv", ["run", "steps", "--shape", SHAPE, "--dtype", "bfloat16", *more]
    )
    run.main()
    (options,) = started
    assert options["load_format"] == "dummy"
    assert (options["max_num_seqs"], options["dtype"]) == (3, "bfloat16")
    assert {prompt for prompt, _ in asked} == {shapes.PROMPT}
    assert not any(sampling["detokenize"] for _, sampling in asked)
    assert [row["shape"] for row in rows] == [SHAPE] * len(run.STEPS)
