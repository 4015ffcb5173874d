"""Stock `vllm serve` with the plugin installed: our fields go into `vllm_xargs`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.serving import Server
from server.talk import BUDGET, CHAT, CHAT_ROUTE, post

SAMPLING = {"top_p": 0.95, "top_k": 30, "min_p": 0.001, "thinking_token_budget": BUDGET}


def request(mode: str, **routing: Any) -> dict[str, Any]:
    """A chat request for stock vLLM."""
    xargs = {"reasoning_mode": mode, "include_reasoning_trace": 1}
    if routing:
        xargs["routing"] = json.dumps(routing)
    return {**CHAT, **SAMPLING, "vllm_xargs": xargs}


def message(server: Server, mode: str, **routing: Any) -> Any:
    """The message that answers it."""
    return post(server, request(mode, **routing))["choices"][0]["message"]


def test_modes(plain: Server) -> None:
    """A threshold that nothing reaches gives explicit decoding, and one that all do, latent."""
    explicit, latent = message(plain, "explicit"), message(plain, "latent")
    assert explicit["reasoning"]
    assert explicit["content"]
    assert latent["reasoning"] != explicit["reasoning"]
    assert message(plain, "routed", threshold=1e-6) == latent
    assert message(plain, "routed", threshold=1) == explicit
    assert message(plain, "routed")["content"]


def test_response_is_stock(plain: Server) -> None:
    """The record of the route is not mistaken for log-probabilities that nobody asked for."""
    with plain.http() as client:
        response = client.post(CHAT_ROUTE, json=request("latent"))
    assert "x-reasoning-mode" not in response.headers
    answer = response.json()
    assert "routing" not in answer
    assert answer["choices"][0]["logprobs"] is None


def test_shortcuts(plain: Server) -> None:
    """The same answers that our server gives for them, without the counts that it adds."""
    whole = {**CHAT, "max_tokens": 24, "temperature": 0.0, "ignore_eos": True}
    base = post(plain, whole)["choices"][0]["message"]
    asked = json.dumps({"depth": 0.5, "steps": 3})
    answer = post(plain, {**whole, "vllm_xargs": {"shortcuts": asked}})
    message = answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens"] == 24
    assert answer["choices"][0]["logprobs"] is None
    assert not message["reasoning"]
    assert message["content"] not in (None, "", base["content"])
    assert "<|im_start|>" not in message["content"], "a latent step was written as text"


@pytest.mark.parametrize(
    ("xargs", "param", "word"),
    [
        ({"reasoning_mode": "quiet"}, "reasoning_mode", "'explicit', 'latent', 'routed'"),
        ({"reasoning_mode": "routed", "routing": "{"}, "routing", "JSON object"),
        ({"reasoning_mode": "routed", "routing": '{"top_n": 99}'}, "routing.top_n", "1 to 32"),
        ({"shortcuts": '{"steps": 65}'}, "shortcuts.steps", "from 0 to 64"),
        ({"shortcuts": "3"}, "shortcuts", "must be an object"),
    ],
)
def test_bad_xargs(plain: Server, xargs: dict[str, Any], param: str, word: str) -> None:
    with plain.http() as client:
        response = client.post(CHAT_ROUTE, json={**CHAT, "vllm_xargs": xargs})
    error = response.json()["error"]
    assert response.status_code == error["code"] == 400
    assert error["param"] == param
    assert word in error["message"]
    assert post(plain, {**CHAT, "max_tokens": 1})["choices"]
