"""The model that ships, served by its short name: it solves what it was trained for, in every mode."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from benchmarks.quality.study import Settings, Study

from server.serving import MODEL, Server
from sottovoce_training.families import FAMILIES

PER_FAMILY = 5
NUM_PROBLEMS = PER_FAMILY * len(FAMILIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def study(server: Server, folder: Path) -> Study:
    tasks = tuple(f"gym:{name}" for name in FAMILIES)
    settings = Settings(
        url=f"{server.base}/v1", model=MODEL, tasks=tasks, count=PER_FAMILY, split="test",
        max_tokens=384, concurrency=8,
    )  # fmt: skip
    return Study(folder, settings)


@pytest.mark.parametrize(
    ("arm", "at_least"), [("explicit", 0.85), ("latent", 0.75), ("routed@0.7", 0.75)]
)
def test_it_solves_held_out_problems(
    reasoner: Server, folder: Path, arm: str, at_least: float
) -> None:
    asked = study(reasoner, folder)
    asyncio.run(asked.run(arm, "greedy", 1, "none"))
    outcome = asked.outcome(arm, "greedy")
    assert outcome.num_errors == 0
    assert len(outcome.samples) == NUM_PROBLEMS
    assert outcome.pass_at_1().value >= at_least
    assert (outcome.thinking or 0.0) > 30
    assert (outcome.soft_share == 0) == (arm == "explicit")


def test_it_says_what_it_serves(reasoner: Server) -> None:
    with reasoner.http() as client:
        (model,) = client.get("/v1/models").json()["data"]
    assert model["reasoning_modes"] == ["explicit", "latent", "routed"]
