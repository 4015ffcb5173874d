"""How an engine starts on a CPU: in one process of its own, and compiled once for all its starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from e2e.loop import Model, Request, generate
from e2e.models import tiny_llama
from scripts import run_with_log

Starts = list[tuple[Any, str]]
pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's engine is left as it is"),
]


def start_ahead(folder: Path) -> Callable[[], Starts]:
    """What three starts said and logged: the first, one after it, and one in two processes."""
    model, cache = str(tiny_llama(folder)), {"VLLM_CACHE_ROOT": str(folder / "cache")}
    executors = () if torch.cuda.is_available() else ("default", "default", "mp")
    return lambda: [run_with_log("e2e/compiled.py", model, how, **cache) for how in executors]


@pytest.fixture
def starts(made_ahead: Starts) -> Starts:
    return made_ahead


def test_a_compiled_engine_follows_the_loop(llama: Model, starts: Starts) -> None:
    """What is served is compiled; the other tests' engines are not."""
    said, _ = starts[0]
    request = Request(tuple(said["prompt"]), temperature=0.0, max_tokens=len(said["tokens"]))
    ((*truth,),) = generate(llama, [request])
    assert said["tokens"] == [step.token for step in truth]
    assert {step.route for step in truth} == {"soft"}


def test_the_model_runs_in_the_engines_process(starts: Starts) -> None:
    said, _ = starts[0]
    assert said["processes"] == ["VLLM::EngineCore"]
    assert said["threads"] == str(said["cores"]), "its threads are set as a worker's would be"


def test_two_processes_can_be_asked_for(starts: Starts) -> None:
    said, _ = starts[2]
    assert said["processes"] == ["VLLM::EngineCore", "VLLM::Worker"]
    assert said["tokens"] == starts[0][0]["tokens"]


def test_the_second_start_compiles_nothing(starts: Starts) -> None:
    (first, compiled), (second, loaded), _ = starts
    assert "saved AOT compiled function" in compiled
    assert "Directly load AOT compilation" in loaded
    assert "saved AOT compiled function" not in loaded
    assert second["tokens"] == first["tokens"]
