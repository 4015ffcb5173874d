"""The model that ships, served by its short name: it solves what it was trained for, in every mode."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from benchmarks.quality.study import Settings, Study

from server.serving import MODEL, Server
from server.talk import post
from sottovoce_training.families import FAMILIES

PER_FAMILY = 5
NUM_PROBLEMS = PER_FAMILY * len(FAMILIES)
LONG_QUESTION = [{"role": "user", "content": "Calculate 17 + 24 - 9 + 88 - 31."}]


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


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_mode": "explicit"},
        {"reasoning_mode": "latent"},
        {"reasoning_mode": "routed"},
        {"reasoning_mode": "routed", "routing": {"policy": "swi"}},
        {"reasoning_effort": "xhigh"},
        {"shortcuts": {"steps": 0}},
        {"shortcuts": {"steps": 6}},
        {"include_reasoning_trace": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("max_tokens", [9, 24])
def test_thinking_leaves_tokens_for_the_answer(
    reasoner: Server, fields: dict[str, Any], max_tokens: int
) -> None:
    """A question that it thinks longer about than it may."""
    asked = {"model": MODEL, "messages": LONG_QUESTION, "max_tokens": max_tokens, "temperature": 0}
    answer = post(reasoner, {**asked, **fields})
    (choice,) = answer["choices"]
    assert choice["message"]["content"].strip()
    usage = answer["usage"]
    thought = usage["completion_tokens_details"]["reasoning_tokens"]
    if "shortcuts" not in fields or not fields["shortcuts"]["steps"]:
        kept = max_tokens // 4
        assert thought == max_tokens - kept, "with the end marker"


def test_a_request_may_keep_none(reasoner: Server) -> None:
    asked = {"model": MODEL, "messages": LONG_QUESTION, "max_tokens": 12, "temperature": 0}
    for mode in ("explicit", "latent"):
        none = {"reasoning_mode": mode, "routing": {"min_answer_tokens": 0}}
        (choice,) = post(reasoner, {**asked, **none})["choices"]
        assert not choice["message"]["content"]


def test_it_says_what_it_serves(reasoner: Server) -> None:
    with reasoner.http() as client:
        (model,) = client.get("/v1/models").json()["data"]
    assert model["reasoning_modes"] == ["explicit", "latent", "routed"]
