"""Requests to a server, and what their answers must have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from server.serving import MODEL, Server

MODES = ("explicit", "latent", "routed")
SOFT = ("latent", "routed")
POLICY = {"explicit": None, "latent": "soft", "routed": "thinkrouter"}
BUDGET, MAX_TOKENS = 8, 20
QUESTION: list[Any] = [{"role": "user", "content": "Hi"}]
# The model is random: a budget closes its thinking, a seed repeats its words.
CHAT: dict[str, Any] = {
    "model": MODEL, "messages": QUESTION, "max_tokens": MAX_TOKENS, "seed": 3, "temperature": 0.6,
}  # fmt: skip
LONG = {**CHAT, "max_tokens": 480, "ignore_eos": True}
CHAT_ROUTE = "/v1/chat/completions"
COLD_STOP = {"cold_stop": {"entropy": 100, "steps": BUDGET}}  # closes thinking on any endpoint


def ours(mode: str, **fields: Any) -> dict[str, Any]:
    """Our fields, as `extra_body` takes them."""
    trace = {"reasoning_mode": mode, "include_reasoning_trace": True}
    return {**trace, "thinking_token_budget": BUDGET, **fields}


def body(mode: str, **fields: Any) -> dict[str, Any]:
    """A chat request for plain HTTP."""
    return {**CHAT, **ours(mode), **fields}


def post(server: Server, request: dict[str, Any], path: str = CHAT_ROUTE) -> Any:
    """A good answer's JSON."""
    with server.http() as client:
        response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    return response.json()


def stream(server: Server, request: dict[str, Any], path: str = CHAT_ROUTE) -> list[Any]:
    """The JSON events of a stream."""
    with (
        server.http() as client,
        client.stream("POST", path, json={**request, "stream": True}) as response,
    ):
        assert response.status_code == 200, response.read()
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def joined(chunks: Iterable[Any], index: int, key: str) -> str:
    """One field of one choice's deltas, or of the choice itself where it has none."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice.get("delta", choice) for choice in choices if choice["index"] == index]
    return "".join(delta.get(key) or "" for delta in deltas)


def steps(chunks: Iterable[Any], index: int = 0) -> list[Any]:
    """The trace of one choice's deltas."""
    return [
        step
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
        for step in choice.get("routing", {}).get("trace", [])
    ]


def outline(trace: list[Any]) -> list[Any]:
    """What two runs of one request must share to the bit."""
    return [(step["token_id"], step["token"], step["route"]) for step in trace]


def assert_consistent(
    details: Any, trace: list[Any], num_tokens: int, num_choices: int = 1
) -> None:
    """Usage and trace tell the same story."""
    routes = [step["route"] for step in trace]
    assert details["reasoning_tokens"] == len(trace)
    assert details["soft_steps"] == routes.count("soft")
    assert details["discrete_steps"] == routes.count("discrete")
    assert details["forced_steps"] == routes.count("forced")
    assert details["switches"] == sum({a, b} == {"soft", "discrete"} for a, b in pairwise(routes))
    assert details["layers_run"] == 2 * (num_tokens - num_choices)
    assert details["layers_skipped"] == 0


def assert_summary(routing: Any, mode: str) -> None:
    """The effective routing."""
    threshold = 0.7 if mode == "routed" else None
    shown = {key: routing[key] for key in ("mode", "policy", "threshold", "arm")}
    assert shown == {"mode": mode, "policy": POLICY[mode], "threshold": threshold, "arm": None}


def assert_error(response: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """An OpenAI error body, whose message holds every word."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert isinstance(error["type"], str)
    assert error["code"] == code
    missing = [word for word in words if word not in error["message"]]
    assert not missing, error["message"]
    return error


def assert_serves(server: Server) -> None:
    """A good request is answered."""
    with server.http() as client:
        response = client.post(CHAT_ROUTE, json={**CHAT, "max_tokens": 1})
    assert response.status_code == 200, response.text


def scrape(server: Server) -> dict[tuple[str, frozenset[Any]], float]:
    """Every series of /metrics."""
    with server.http() as client:
        text = client.get("/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def read(server: Server, name: str, **labels: str) -> float:
    """One series of ours."""
    return scrape(server)["sottovoce_" + name, frozenset(labels.items())]
