"""How an engine starts on a CPU: in one process of its own, and compiled once for all its starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from e2e.models import tiny_llama
from scripts import run_with_log

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's engine is left as it is"),
]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, str]]:
    """What three starts said and logged: the first, one after it, and one in two processes."""
    root: Path = tmp_path_factory.mktemp("starts")
    model = str(tiny_llama(root))
    cache = {"VLLM_CACHE_ROOT": str(root / "cache")}
    return [
        run_with_log("e2e/compiled.py", model, executor, **cache)
        for executor in ("default", "default", "mp")
    ]


def test_the_model_runs_in_the_engines_process(starts: list[tuple[Any, str]]) -> None:
    said, _ = starts[0]
    assert said["processes"] == ["VLLM::EngineCore"]
    assert said["threads"] == str(said["cores"]), "its threads are set as a worker's would be"


def test_two_processes_can_be_asked_for(starts: list[tuple[Any, str]]) -> None:
    said, _ = starts[2]
    assert said["processes"] == ["VLLM::EngineCore", "VLLM::Worker"]
    assert said["tokens"] == starts[0][0]["tokens"]


def test_the_second_start_compiles_nothing(starts: list[tuple[Any, str]]) -> None:
    (first, compiled), (second, loaded), _ = starts
    assert "saved AOT compiled function" in compiled
    assert "Directly load AOT compilation" in loaded
    assert "saved AOT compiled function" not in loaded
    assert second["tokens"] == first["tokens"]
