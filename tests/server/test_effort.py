"""`reasoning_effort` as a thinking budget, on every protocol that has one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.front import CHAT, JSON, App, Front
from server.stubs import engine_config
from sottovoce_router import BUDGET_KEY, Capabilities
from sottovoce_server.effort import DEFAULT_SHARES, EFFORTS, parse_shares
from sottovoce_server.settings import ServerSettings
from sottovoce_server.translate import Translation, translate

ALL = Capabilities.from_config(engine_config())
SHARES = parse_shares(DEFAULT_SHARES)
CONTEXT = 512


def translated(endpoint: str, capabilities: Capabilities = ALL, **body: Any) -> Translation:
    return translate(body, endpoint, capabilities, {}, effort_shares=SHARES)


def budget_of(translation: Translation) -> Any:
    """What vLLM is going to see, in its own field or where our admission looks."""
    xargs = translation.body.get("vllm_xargs") or {}
    holders = [h[BUDGET_KEY] for h in (translation.body, xargs) if BUDGET_KEY in h]
    assert len(holders) <= 1
    return holders[0] if holders else None


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("none", 0), ("minimal", 10), ("low", 20), ("medium", 50), ("high", 80), ("xhigh", 95)],
)
def test_a_share_of_what_may_be_generated(effort: str, budget: int) -> None:
    asked = {
        "chat": {"reasoning_effort": effort, "max_tokens": 100},
        "batch": {"reasoning_effort": effort, "max_completion_tokens": 100, "max_tokens": 7},
        "responses": {"reasoning": {"effort": effort}, "max_output_tokens": 100},
        "messages": {"output_config": {"effort": effort}, "max_tokens": 100},
    }
    for endpoint, body in asked.items():
        for mode in ("explicit", "latent", "routed"):
            translation = translated(endpoint, reasoning_mode=mode, **body)
            assert budget_of(translation) == translation.thinking_budget == budget
            kept = {k: v for k, v in translation.body.items() if k in body}
            assert kept == body, "the chat template reads it too"


def test_without_a_limit_it_is_a_share_of_the_context() -> None:
    assert translated("chat", reasoning_effort="low").thinking_budget == int(0.2 * CONTEXT)
    more = translated("chat", reasoning_effort="low", max_tokens=10**401)
    assert more.thinking_budget == int(0.2 * CONTEXT)


def test_thinking_that_is_disabled_has_no_budget_left() -> None:
    body = {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}
    assert budget_of(translated("messages", max_tokens=100, **body)) == 0


@pytest.mark.parametrize("given", [0, 7, 10**6])
def test_a_budget_that_is_given_wins(given: int) -> None:
    translation = translated("chat", reasoning_effort="low", **{BUDGET_KEY: given})
    assert budget_of(translation) == translation.thinking_budget == given
    thinking = {"type": "enabled", "budget_tokens": given}
    body = {"thinking": thinking, "output_config": {"effort": "low"}}
    translation = translated("messages", max_tokens=100, **body)
    assert (budget_of(translation), translation.thinking_budget) == (None, given)
    assert translation.body["thinking"] == thinking


def test_a_budget_in_vllm_xargs_wins() -> None:
    xargs = {BUDGET_KEY: 7, "k": 1}
    for endpoint, effort in (("chat", "reasoning_effort"), ("responses", "reasoning")):
        value = "low" if endpoint == "chat" else {"effort": "low"}
        translation = translated(endpoint, vllm_xargs=xargs, **{effort: value})
        assert (budget_of(translation), translation.thinking_budget) == (7, 7)
        assert translation.body["vllm_xargs"] == xargs


def test_a_protocol_without_the_field_takes_it_too() -> None:
    """vLLM would ignore it there: it goes where our admission looks."""
    for endpoint in ("responses", "messages"):
        words = {"reasoning": {"effort": "low"}, "output_config": {"effort": "low"}}
        translation = translated(endpoint, max_tokens=100, **words, **{BUDGET_KEY: 7})
        assert translation.body["vllm_xargs"] == {BUDGET_KEY: 7}
        assert (budget_of(translation), translation.thinking_budget) == (7, 7)
    own = {"thinking": {"type": "enabled", "budget_tokens": 9}}
    assert translated("messages", max_tokens=100, **own, **{BUDGET_KEY: 7}).thinking_budget == 9


@pytest.mark.parametrize("endpoint", ["responses", "messages"])
def test_an_unlimited_budget_of_theirs_is_none(endpoint: str) -> None:
    words = {"reasoning": {"effort": "low"}, "output_config": {"effort": "low"}}
    translation = translated(endpoint, max_tokens=100, **words, **{BUDGET_KEY: -1})
    assert (budget_of(translation), translation.thinking_budget) == (None, None)


def test_an_unlimited_budget_wins_too() -> None:
    translation = translated("chat", reasoning_effort="low", **{BUDGET_KEY: -1})
    assert (budget_of(translation), translation.thinking_budget) == (-1, None)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"reasoning_effort": None}, {"reasoning_effort": "max"}, {"reasoning_effort": "huge"},
        {"reasoning_effort": ["low"]}, {"reasoning": "low"}, {"output_config": {"effort": "low"}},
        {"reasoning_effort": "low", "use_beam_search": True},
    ],
    ids=str,
)  # fmt: skip
def test_nothing_is_added_otherwise(body: dict[str, Any]) -> None:
    translation = translated("chat", **body)
    assert (budget_of(translation), translation.thinking_budget) == (None, None)


def test_a_model_that_does_not_think_has_no_budget() -> None:
    plain = Capabilities.from_config(engine_config(reasoning_config=None))
    assert translated("chat", plain, reasoning_effort="low").thinking_budget is None


@pytest.mark.parametrize(
    "text", ["low", "low=", "low=x", "huge=0.5", "low=1.5", "low=-1", "low=nan"]
)
def test_a_wrong_table_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--effort-shares has '{text}'; give NAME=SHARE"):
        ServerSettings(effort_shares=text)


def test_tables() -> None:
    assert SHARES.keys() == set(EFFORTS) - {"max"}
    assert parse_shares("low=0.25, max=1") == {"low": 0.25, "max": 1.0}
    assert parse_shares("") == {}


def test_the_answer_tells_the_budget() -> None:
    app = App(headers=dict(JSON), parts=(json.dumps({"choices": []}).encode(),))
    request = {"model": "m", "messages": [], "reasoning_effort": "high", "max_tokens": 100}
    front = Front(app, effort_shares="high=0.5")
    answer = json.loads(front.post(request, CHAT).body)
    assert answer["routing"]["thinking_budget"] == 50
    assert json.loads(app.asked[-1][2])[BUDGET_KEY] == 50
    assert (
        json.loads(Front(app, effort_shares="").post(request).body)["routing"]["thinking_budget"]
        is None
    )
