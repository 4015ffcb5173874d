"""Efforts on real endpoints: the budget that the answer tells is the one that the engine keeps."""

from __future__ import annotations

from typing import Any

import pytest

from server.serving import MODEL, Server
from server.talk import CHAT, MAX_TOKENS, MODES, QUESTION, post

ROUTES = {
    "chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages",
}  # fmt: skip
NUM_IN_PROMPT = 1  # tokens after the start marker, which vLLM counts


def asked(endpoint: str, effort: str) -> dict[str, Any]:
    """A request of that effort, in the endpoint's own words."""
    if endpoint == "chat":
        return {**CHAT, "reasoning_effort": effort}
    if endpoint == "responses":
        limits = {"max_output_tokens": MAX_TOKENS, "seed": 3}
        return {"model": MODEL, "input": "Hi", "reasoning": {"effort": effort}, **limits}
    words = {"thinking": {"type": "disabled"}} if effort == "none" else {}
    config = {} if effort == "none" else {"output_config": {"effort": effort}}
    return {"model": MODEL, "messages": QUESTION, "max_tokens": MAX_TOKENS, **words, **config}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("endpoint", ROUTES)
@pytest.mark.parametrize(("effort", "budget"), [("none", 0), ("low", 4), ("medium", 10)])
def test_an_effort_bounds_thinking(
    server: Server, endpoint: str, mode: str, effort: str, budget: int
) -> None:
    request = {**asked(endpoint, effort), "reasoning_mode": mode, "ignore_eos": True}
    if endpoint == "messages":
        del request["ignore_eos"]
    answer = post(server, request, ROUTES[endpoint])
    assert answer["routing"]["thinking_budget"] == budget
    usage = answer["usage"]
    details = usage.get("completion_tokens_details") or usage["output_tokens_details"]
    most = max(budget - NUM_IN_PROMPT, 0) + 1  # and the end marker
    assert 0 < details["reasoning_tokens"] <= most
    if mode != "explicit" and details["reasoning_tokens"] == most:
        assert details["forced_steps"] == 1


def test_a_budget_that_is_given_wins(server: Server) -> None:
    answer = post(server, {**asked("chat", "none"), "thinking_token_budget": 6})
    assert answer["routing"]["thinking_budget"] == 6
    assert 1 < answer["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 6
