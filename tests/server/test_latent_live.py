"""A converted latent model on a real server: its steps in the answer, streamed or not, and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.serving import MODEL, Server
from server.talk import assert_error
from sottovoce_client import Client

MAX_STEPS = 20  # of a run that is converted
MAX_TOKENS = 24
CHAT: dict[str, Any] = {
    "model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "max_tokens": MAX_TOKENS, "temperature": 0.0, "ignore_eos": True, "seed": 0,
}  # fmt: skip
ROUTE = "/v1/chat/completions"


def ask(server: Server, **fields: Any) -> Any:
    with server.http() as client:
        response = client.post(ROUTE, json={**CHAT, **fields})
    assert response.status_code == 200, response.text
    return response


def details_of(answer: Any) -> Any:
    return answer["usage"]["completion_tokens_details"]


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"reasoning_mode": "latent"}, MAX_STEPS),
        ({"latent": {}}, MAX_STEPS),
        ({"latent": {"steps": 1}, "reasoning_mode": "latent"}, 1),
        ({"vllm_xargs": {"latent": '{"steps": 1}'}}, 1),
    ],
)
def test_an_answer_says_what_was_done(trained: Server, fields: Any, most: int) -> None:
    response = ask(trained, **fields)
    answer = response.json()
    assert response.headers["x-reasoning-mode"] == answer["routing"]["mode"] == "latent"
    assert (answer["routing"]["policy"], answer["routing"]["latent"]) == ("atp", {"steps": most})
    details = details_of(answer)
    assert 1 <= details["latent_steps"] <= most
    assert (details["reasoning_tokens"], details["soft_steps"]) == (1, 0)
    assert answer["usage"]["completion_tokens"] == MAX_TOKENS
    assert "<|im_start|>" not in (answer["choices"][0]["message"]["content"] or "")


def test_other_modes_are_as_ever(trained: Server) -> None:
    plain = ask(trained).json()
    soft = ask(trained, reasoning_mode="latent", routing={"policy": "soft"}).json()
    assert "latent" not in plain["routing"]
    assert (plain["routing"]["mode"], soft["routing"]["policy"]) == ("explicit", "soft")
    assert (details_of(plain)["latent_steps"], details_of(soft)["latent_steps"]) == (0, 0)
    assert details_of(soft)["soft_steps"] > 0


def test_a_stream_says_the_same(trained: Server) -> None:
    fields = {"latent": {"steps": 3}, "include_reasoning_trace": True}
    whole = ask(trained, **fields).json()
    text = ask(trained, **fields, stream=True, stream_options={"include_usage": True}).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    trace = [step for choice in choices for step in choice.get("routing", {}).get("trace", [])]
    assert content == (whole["choices"][0]["message"]["content"] or "")
    num_latent = details_of(whole)["latent_steps"]
    assert [step["route"] for step in trace] == ["latent"] * num_latent + ["forced"]
    assert all(step["alternatives"] for step in trace)
    assert details_of(events[-1]) == details_of(whole)


TRACED = {"latent": {"steps": 4}, "include_reasoning_trace": True}
PLAIN = {key: value for key, value in CHAT.items() if key != "messages"}
QUESTION = CHAT["messages"][0]["content"]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        **PLAIN, "prompt": f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n<think>\n",
    },
    "/v1/responses": {
        "model": MODEL, "input": QUESTION, "max_output_tokens": MAX_TOKENS, "temperature": 0.0,
    },
    "/v1/messages": PLAIN | {"messages": CHAT["messages"]},
}  # fmt: skip


def assert_read(trace: list[dict[str, Any]]) -> None:
    """Every second latent in words, and nothing else."""
    latents = [step for step in trace if step["route"] == "latent"]
    has_words = [isinstance(step.get("step"), str) for step in latents]
    assert has_words == [i % 2 == 1 for i in range(len(latents))]
    assert True in has_words
    assert not any("step" in step for step in trace if step["route"] != "latent")


def test_latents_are_read_in_words(trained: Server) -> None:
    """Streamed or not, and by the client."""
    (choice,) = ask(trained, **TRACED).json()["choices"]
    assert_read(choice["routing"]["trace"])
    words = [step.get("step") for step in choice["routing"]["trace"]]
    assert any(words)
    events = [json.loads(line[6:]) for line in ask(trained, **TRACED, stream=True).text.splitlines()
              if line.startswith("data: {")]  # fmt: skip
    chunks = [choice for event in events for choice in event["choices"]]
    streamed = [step for chunk in chunks for step in chunk.get("routing", {}).get("trace", [])]
    assert [step.get("step") for step in streamed] == words
    with Client(trained.base) as client:
        done = client.chat(QUESTION, model=MODEL, latent={"steps": 4}, trace=True,
                           **{k: CHAT[k] for k in ("max_tokens", "temperature", "seed")})  # fmt: skip
    assert [step.step for step in done.trace] == words


@pytest.mark.parametrize("route", ASKED)
def test_every_endpoint_has_the_words(trained: Server, route: str) -> None:
    with trained.http() as client:
        response = client.post(route, json={**ASKED[route], **TRACED})
    assert response.status_code == 200, response.text
    holder = response.json()
    holder = holder["choices"][0] if "choices" in holder else holder
    assert_read(holder["routing"]["trace"])


def test_the_model_list_has_the_method(trained: Server) -> None:
    with trained.http() as client:
        (model,) = client.get("/v1/models").json()["data"]
    assert model["latent"] == {"method": "atp", "steps": MAX_STEPS, "max_steps": MAX_STEPS}
    assert model["shortcuts"] is None
    assert model["reasoning_modes"] == ["explicit", "latent", "routed"]


def test_metrics_count_them(trained: Server) -> None:
    ask(trained, latent={"steps": 1})
    with trained.http() as client:
        lines = client.get("/metrics").text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    counted = {name: float(value) for name, value in pairs}
    requests = 'sottovoce_requests_total{mode="latent",outcome="ok",policy="atp"}'
    assert counted[requests] >= 1
    assert counted['sottovoce_steps_total{kind="latent"}'] >= 1


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"latent": {"steps": 21}}, "invalid_value", "latent.steps", ("21", "from 1 to 20")),
        ({"latent": {}, "routing": {"top_n": 3}}, "invalid_value", "routing", ("leave out one",)),
        ({"reasoning_mode": "latent", "routing": {"top_n": 3}}, "invalid_value", "routing",
         ("name a policy",)),
        ({"latent": {}, "reasoning_mode": "routed"}, "invalid_value", "reasoning_mode",
         ("routed", "use latent")),
        ({"latent": {}, "use_beam_search": True, "n": 2}, "invalid_value", "use_beam_search",
         ("drop one",)),
        ({"latent": {}, "max_tokens": 5}, "invalid_request", "latent.steps", ("raise max_tokens",)),
    ],
)  # fmt: skip
def test_refusals(
    trained: Server, fields: dict[str, Any], code: str, param: str, words: tuple[str, ...]
) -> None:
    with trained.http() as client:
        response = client.post(ROUTE, json={**CHAT, **fields})
    assert assert_error(response, 400, code, param, *words)["param"] == param
