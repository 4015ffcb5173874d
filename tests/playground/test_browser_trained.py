"""The playground with models that were trained to think in latent steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from playground.reading import choose_modes, column, totals, wait_until_done

MODES = ["explicit", "latent", "routed"]
CODI = {"id": "codi", "latent": {"method": "codi", "steps": 6, "max_steps": 64}, "shortcuts": None}
STUDENT = {"id": "student", "latent": None, "shortcuts": {"steps": 6, "depth": 0.6}}
STEP = {"token_id": 1, "token": "4", "p_max": 0.5, "entropy": 1.0, "alternatives": []}
TRACE = [{**STEP, "route": "latent"}, {**STEP, "route": "latent"}, {**STEP, "route": "discrete"}]
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {}, "routing": {"trace": TRACE}, "finish_reason": "stop"}]},
    {"choices": [], "routing": {"mode": "latent", "policy": "codi", "threshold": None}},
]


@pytest.fixture
def sent(page: Any) -> list[dict[str, Any]]:
    """The requests of a page whose models these are."""
    requests: list[dict[str, Any]] = []

    def answer(route: Any) -> None:
        requests.append(route.request.post_data_json)
        events = [*(json.dumps(chunk) for chunk in CHUNKS), "[DONE]"]
        body = "".join(f"data: {event}\n\n" for event in events)
        route.fulfill(body=body, content_type="text/event-stream")

    cards = [{**card, "reasoning_modes": MODES} for card in (CODI, STUDENT)]
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": cards}))
    page.route("**/v1/chat/completions", answer)
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
    assert run.locator(".token.latent").count() == 2
    assert run.locator("path.latent").get_attribute("d").count("M") == 2
    assert page.locator("#legend .token.latent").is_visible()
    assert totals(run)["switches"] == "0", "steps that are no choice change nothing"


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
