"""The field `shortcuts` on a real server: what an answer says, streamed or not, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.serving import MODEL, Server
from server.talk import assert_error
from sottovoce_training.shortcuts.generate import DEPTH

NUM_LAYERS, MAX_TOKENS = 4, 24
CHAT: dict[str, Any] = {
    "model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "max_tokens": MAX_TOKENS, "temperature": 0.0, "ignore_eos": True,
}  # fmt: skip
ROUTE = "/v1/chat/completions"


def ask(server: Server, **fields: Any) -> Any:
    with server.http() as client:
        response = client.post(ROUTE, json={**CHAT, **fields})
    assert response.status_code == 200, response.text
    return response


def details_of(usage: Any) -> Any:
    return usage["completion_tokens_details"]


def assert_counted(details: Any, steps: int, num_choices: int = 1) -> None:
    """Every layer of every position after the prompt; only the end marker is a reasoning token."""
    layers = NUM_LAYERS * (MAX_TOKENS - 1) * num_choices
    assert details["layers_run"] + details["layers_skipped"] == layers
    assert details["latent_steps"] == steps * num_choices
    if steps:
        assert details["reasoning_tokens"] == num_choices


@pytest.mark.parametrize(
    ("shortcuts", "mode", "steps", "depth"),
    [
        ({"depth": 0.5, "steps": 3}, "latent", 3, 0.5),
        ({}, "latent", 6, DEPTH),
        ({"depth": 0.5, "steps": 0}, "explicit", 0, 0.5),
        ({"depth": None}, "latent", 6, None),
    ],
)
def test_an_answer_says_what_was_done(
    short: Server, shortcuts: Any, mode: str, steps: int, depth: float | None
) -> None:
    response = ask(short, shortcuts=shortcuts)
    answer = response.json()
    details = details_of(answer["usage"])
    assert response.headers["x-reasoning-mode"] == answer["routing"]["mode"] == mode
    assert answer["routing"]["shortcuts"] == {"depth": depth, "steps": steps}
    assert_counted(details, steps)
    assert (details["layers_skipped"] > 0) == (depth is not None)
    assert answer["usage"]["completion_tokens"] == MAX_TOKENS
    message = answer["choices"][0]["message"]
    assert "<|im_start|>" not in (message["content"] or "")
    if steps:
        assert not message["reasoning"]


def test_a_request_without_is_the_base_models(short: Server) -> None:
    plain, named = ask(short).json(), ask(short, shortcuts={"depth": 1, "steps": 0}).json()
    assert "shortcuts" not in plain["routing"]
    assert details_of(plain["usage"])["layers_skipped"] == 0
    assert plain["choices"][0]["message"] != named["choices"][0]["message"]


def test_a_stream_says_the_same(short: Server) -> None:
    fields = {"shortcuts": {"depth": 0.5, "steps": 3}, "include_reasoning_trace": True}
    whole = ask(short, **fields).json()
    text = ask(short, **fields, stream=True, stream_options={"include_usage": True}).text
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    events = [json.loads(line) for line in lines]
    choices = [choice for event in events for choice in event["choices"]]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    trace = [step for choice in choices for step in choice.get("routing", {}).get("trace", [])]
    assert content == (whole["choices"][0]["message"]["content"] or "")
    assert [step["route"] for step in trace] == ["latent"] * 3 + ["forced"]
    shown = [(step["token_id"], step["route"]) for step in trace]
    wanted = whole["choices"][0]["routing"]["trace"]
    assert shown == [(step["token_id"], step["route"]) for step in wanted]
    assert all(step["alternatives"] for step in trace)
    assert events[-1]["routing"] == whole["routing"]
    assert details_of(events[-1]["usage"]) == details_of(whole["usage"])


def test_several_choices_add_up(short: Server) -> None:
    shortcuts = {"depth": 0.5, "steps": 3}
    answer = ask(short, shortcuts=shortcuts, n=3, temperature=1.0, seed=1).json()
    assert_counted(details_of(answer["usage"]), 3, 3)


def test_the_model_list_has_the_defaults(short: Server) -> None:
    with short.http() as client:
        (model,) = client.get("/v1/models").json()["data"]
    assert model["shortcuts"]["steps"] == 6
    assert model["shortcuts"]["depth"] == DEPTH
    assert 1 in model["shortcuts"]["trained_steps"]
    assert model["reasoning_modes"] == ["explicit", "latent", "routed"]


def test_metrics_count_them(short: Server) -> None:
    name = 'sottovoce_requests_total{mode="latent",outcome="ok",policy="shortcuts"}'
    ask(short, shortcuts={"steps": 1})
    with short.http() as client:
        lines = client.get("/metrics").text.splitlines()
    (count,) = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)]
    assert float(count) >= 1


def assert_refused(
    server: Server, fields: dict[str, Any], code: str, param: str, words: tuple[str, ...]
) -> None:
    with server.http() as client:
        response = client.post(ROUTE, json={**CHAT, **fields})
    assert assert_error(response, 400, code, param, *words)["param"] == param


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"shortcuts": {"steps": 65}}, "shortcuts.steps", ("65", "from 0 to 64")),
        ({"shortcuts": {"depth": 2}}, "shortcuts.depth", ("2", "from 0 to 1")),
        ({"shortcuts": {}, "routing": {"top_n": 3}}, "routing", ("top_n", "leave out one")),
        ({"shortcuts": {}, "reasoning_mode": "routed"}, "reasoning_mode", ("routed", "latent")),
        ({"shortcuts": {}, "use_beam_search": True, "n": 2}, "use_beam_search", ("drop one",)),
        ({"vllm_xargs": {"shortcuts": "{"}}, "shortcuts", ("JSON object",)),
    ],
)
def test_refusals(
    short: Server, fields: dict[str, Any], param: str, words: tuple[str, ...]
) -> None:
    assert_refused(short, fields, "invalid_value", param, words)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"shortcuts": {"steps": 40}}, "shortcuts.steps", ("40", "raise max_tokens")),
        ({"shortcuts": {}, "prompt_logprobs": 1}, "prompt_logprobs", ("1", "leave out one")),
    ],
)
def test_refusals_of_the_engine(
    short: Server, fields: dict[str, Any], param: str, words: tuple[str, ...]
) -> None:
    assert_refused(short, fields, "invalid_request", param, words)


def test_the_log_says_what_is_off(short: Server) -> None:
    assert "shortcuts: loaded from" in short.log
