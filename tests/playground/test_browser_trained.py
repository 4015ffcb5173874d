"""The playground with models that were trained to think in latent steps."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from playground.reading import answer_with, choose_modes, column, totals, wait_until_done
from sottovoce_client import Done, ThinkingStep, TraceStep, Usage
from sottovoce_client.screen import Reply

MODES = ["explicit", "latent", "routed"]
CODI = {"id": "codi", "latent": {"method": "codi", "steps": 6, "max_steps": 64}, "shortcuts": None}
STUDENT = {"id": "student", "latent": None, "shortcuts": {"steps": 6, "depth": 0.6}}
STEP = {"token_id": 1, "token": "4", "p_max": 0.5, "entropy": 1.0, "alternatives": []}
TRACE = [{**STEP, "route": "latent"}] * 6 + [{**STEP, "route": "discrete"}]
DETAILS = {"reasoning_tokens": 1, "soft_steps": 0, "latent_steps": 6, "switches": 0}
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {}, "routing": {"trace": TRACE}, "finish_reason": "stop"}]},
    {
        "choices": [],
        "routing": {"mode": "latent", "policy": "codi", "threshold": None},
        "usage": {"completion_tokens": 12, "completion_tokens_details": DETAILS},
    },
]


@pytest.fixture
def sent(page: Any) -> list[dict[str, Any]]:
    """The requests of a page whose models these are."""
    cards = [{**card, "reasoning_modes": MODES} for card in (CODI, STUDENT)]
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": cards}))
    requests = answer_with(page, CHUNKS)
    page.reload()
    page.wait_for_selector("select[name=model] option[value=codi]", state="attached")
    return requests


def _run(page: Any, model: str) -> None:
    page.select_option("[name=model]", model)
    choose_modes(page, "latent")
    page.click("#run")
    wait_until_done(page, "latent")


def test_a_latent_trained_model_takes_its_own_steps(page: Any, sent: list[dict[str, Any]]) -> None:
    _run(page, "codi")
    (request,) = sent
    assert "routing" not in request, "the server refuses one beside the model's own steps"
    assert request["latent"] == {}
    run = column(page, "latent")
    assert run.locator(".effective").inner_text() == "ran as latent · codi"
    assert run.locator(".token.latent").count() == 6
    assert run.locator("path.latent").get_attribute("d").count("M") == 6
    assert page.locator("#legend .token.latent").is_visible()
    assert totals(run)["switches"] == "0", "steps that are no choice change nothing"


@pytest.mark.parametrize(("model", "policy"), [("codi", ""), ("student", "shortcuts")])
def test_latent_steps_count_as_the_clients_do(
    page: Any, sent: list[dict[str, Any]], model: str, policy: str
) -> None:
    """The six and the end marker, where the usage has one reasoning token."""
    page.select_option("[name=model]", model)
    page.select_option("[name=latent_policy]", policy)
    _run(page, model)
    assert totals(column(page, "latent")) == {
        "reasoning steps": "7", "soft share": "0 %", "switches": "0", "tokens": "12",
    }  # fmt: skip
    reply = Reply(Console(), clock=lambda: 0.0)
    for step in TRACE:
        reply.take(ThinkingStep(TraceStep.model_validate(step)))
    reply.take(Done("", Usage.model_validate(CHUNKS[-1]["usage"]), None))
    assert str(reply.counters()) == "7 reasoning steps, 0% soft, 0.0 s"


def test_its_steps_are_asked_for(page: Any, sent: list[dict[str, Any]]) -> None:
    assert not page.locator("[name=depth]").is_visible()
    page.fill("[name=steps]", "3")
    _run(page, "codi")
    assert sent[0]["latent"] == {"steps": 3}


def test_a_policy_goes_before_its_own_steps(page: Any, sent: list[dict[str, Any]]) -> None:
    page.select_option("[name=latent_policy]", "soft")
    _run(page, "codi")
    assert "latent" not in sent[0]
    assert sent[0]["routing"]["policy"] == "soft"


def test_shortcuts_are_one_of_the_policies(page: Any, sent: list[dict[str, Any]]) -> None:
    page.select_option("[name=model]", "student")
    page.select_option("[name=latent_policy]", "shortcuts")
    page.fill("[name=depth]", "0.5")
    _run(page, "student")
    assert "routing" not in sent[0]
    assert sent[0]["shortcuts"] == {"depth": 0.5}


def test_a_model_without_any_shows_no_such_field(page: Any) -> None:
    assert not page.locator("[name=steps]").is_visible()
    assert not page.locator("[name=depth]").is_visible()
