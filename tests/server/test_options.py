"""vLLM's own options and routes beside ours: none is lost, and none ignored in silence."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.serving import MODEL, Server
from server.talk import (
    BUDGET,
    CHAT,
    MAX_TOKENS,
    MODES,
    QUESTION,
    SOFT,
    assert_consistent,
    assert_summary,
    body,
    joined,
    ours,
    outline,
    post,
    steps,
    stream,
)


@pytest.mark.parametrize("mode", SOFT)
def test_vllm_xargs_are_the_same_fields(server: Server, mode: str) -> None:
    routing = {"top_n": 4, "mix_temperature": 0.5}
    top = post(server, body(mode, routing=routing))
    xargs = {
        "reasoning_mode": mode, "routing": json.dumps(routing), "include_reasoning_trace": 1,
    }  # fmt: skip
    nested = post(server, {**CHAT, "thinking_token_budget": BUDGET, "vllm_xargs": xargs})
    for key in ("routing", "usage"):
        assert nested[key] == top[key]
    assert nested["choices"][0]["message"] == top["choices"][0]["message"]
    traces = [answer["choices"][0]["routing"]["trace"] for answer in (top, nested)]
    assert outline(traces[0]) == outline(traces[1])
    assert max(len(step["alternatives"]) for step in traces[0]) <= 4


def test_a_field_overrides_vllm_xargs(server: Server) -> None:
    request = body("explicit", vllm_xargs={"reasoning_mode": "latent"})
    assert_summary(post(server, request)["routing"], "explicit")


def entries(answer: Any) -> list[Any]:
    """The log-probabilities of a chat answer."""
    found: list[Any] = answer["choices"][0]["logprobs"]["content"]
    return found


def test_trace_does_not_change_logprobs(server: Server) -> None:
    request = body("explicit", logprobs=True, top_logprobs=3)
    traced = post(server, request)
    plain = post(server, {**request, "include_reasoning_trace": False})
    assert entries(traced) == entries(plain)


@pytest.mark.parametrize("mode", SOFT)
def test_logprobs_beside_routing(server: Server, mode: str) -> None:
    """They are of the recorded tokens, as many as asked for, in a stream too."""
    request = body(mode, logprobs=True, top_logprobs=3, return_token_ids=True)
    asked, silent = post(server, request), post(server, body(mode))
    assert asked["choices"][0]["message"] == silent["choices"][0]["message"]
    found = entries(asked)
    assert len(found) == MAX_TOKENS
    assert all(len(entry["top_logprobs"]) == 3 for entry in found)
    for step, entry in zip(asked["choices"][0]["routing"]["trace"], found, strict=False):
        assert step["token"] == entry["token"] or "\ufffd" in step["token"]
    explicit = entries(post(server, {**request, "reasoning_mode": "explicit"}))
    first = [(e["token"], pytest.approx(e["logprob"])) for e in explicit[0]["top_logprobs"]]
    assert [(e["token"], e["logprob"]) for e in found[0]["top_logprobs"]] == first
    chunks = stream(server, request)
    deltas = [c["choices"][0].get("logprobs") for c in chunks if c["choices"]]
    streamed = [entry for delta in deltas if delta for entry in delta["content"]]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in found]


@pytest.mark.parametrize("mode", MODES)
def test_stop_string(server: Server, mode: str) -> None:
    free = post(server, body(mode))["choices"][0]["message"]["content"]
    stop = free[-4:]
    choice = post(server, body(mode, stop=[stop], min_tokens=BUDGET + 1))["choices"][0]
    content = choice["message"]["content"] or ""
    assert choice["finish_reason"] == "stop"
    assert stop not in content
    assert free.startswith(content)
    assert len(choice["routing"]["trace"]) == BUDGET


@pytest.mark.parametrize("mode", MODES)
def test_stop_string_in_a_stream(server: Server, mode: str) -> None:
    """In completions: in chat, text that vLLM holds back tears the marker of its parser apart."""
    request = {"model": MODEL, "prompt": "a<think>", "max_tokens": 12, "seed": 5, **ours(mode)}
    free = post(server, request, "/v1/completions")["choices"][0]["text"]
    request["stop"] = [free[6:9]]
    whole = post(server, request, "/v1/completions")["choices"][0]
    chunks = stream(server, request, "/v1/completions")
    assert whole["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert free[6:9] not in whole["text"]
    assert joined(chunks, 0, "text") == whole["text"]
    assert outline(steps(chunks)) == outline(whole["routing"]["trace"])


@pytest.mark.parametrize("mode", MODES)
def test_json_schema_binds_the_answer(server: Server, mode: str) -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ["red", "blue"]}}, "required": ["x"]}
    wanted = {"name": "colour", "schema": {**schema, "additionalProperties": False}}
    form = {"type": "json_schema", "json_schema": wanted}
    choice = post(server, body(mode, response_format=form, max_tokens=60))["choices"][0]
    assert json.loads(choice["message"]["content"])["x"] in ("red", "blue")
    assert len(choice["routing"]["trace"]) == BUDGET


@pytest.mark.parametrize("mode", MODES)
def test_tool_call(server: Server, mode: str) -> None:
    parameters = {
        "type": "object", "properties": {"x": {"enum": ["a", "b"]}}, "required": ["x"],
        "additionalProperties": False,
    }  # fmt: skip
    tool: Any = {"type": "function", "function": {"name": "f", "strict": True}}
    tool["function"]["parameters"] = parameters
    with server.http() as client:
        spaces = client.post("/tokenize", json={"model": MODEL, "prompt": "\n\r\t "}).json()[
            "tokens"
        ]
    answer: Any = server.openai().chat.completions.create(
        **{**CHAT, "max_tokens": 100},
        tools=[tool],
        tool_choice="required",
        logit_bias={str(token): -100 for token in spaces},  # JSON allows space without end
        extra_body=ours(mode),
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "f"
    assert json.loads(call.function.arguments)["x"] in ("a", "b")
    assert answer.choices[0].message.reasoning
    assert len(answer.choices[0].routing["trace"]) == BUDGET


def test_many_streams_lose_no_step(server: Server) -> None:
    """Under load vLLM merges outputs that wait for their reader."""
    request = body("latent", max_tokens=50, thinking_token_budget=40, n=4)
    with ThreadPoolExecutor(3) as pool:
        streams = list(pool.map(lambda _: stream(server, request), range(3)))
    for chunks in streams:
        assert [len(steps(chunks, index)) for index in range(4)] == [40] * 4


def test_batch_route(server: Server) -> None:
    messages = [QUESTION, [{"role": "user", "content": "Ho ho"}]]
    answer = post(
        server, body("routed", messages=messages, seed=None), "/v1/chat/completions/batch"
    )
    assert_summary(answer["routing"], "routed")
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    traces = [choice["routing"]["trace"] for choice in answer["choices"]]
    assert [len(trace) for trace in traces] == [BUDGET, BUDGET]
    details = answer["usage"]["completion_tokens_details"]
    assert_consistent(details, traces[0] + traces[1], 2 * MAX_TOKENS, 2)


def test_sagemaker_route(server: Server) -> None:
    direct = post(server, body("routed"))["choices"][0]
    chat = post(server, body("routed"), "/invocations")["choices"][0]
    assert chat["message"] == direct["message"]
    assert outline(chat["routing"]["trace"]) == outline(direct["routing"]["trace"])
    prompt = {"model": MODEL, "prompt": "a<think>", "max_tokens": 4, "reasoning_mode": "latent"}
    assert_summary(post(server, prompt, "/invocations")["routing"], "latent")


def test_beam_search_is_explicit(server: Server) -> None:
    request = {**CHAT, "use_beam_search": True, "n": 2}
    answer = post(server, request)
    assert_summary(answer["routing"], "explicit")
    assert answer["usage"]["completion_tokens"] == 2 * MAX_TOKENS
    assert "layers_run" not in (answer["usage"]["completion_tokens_details"] or {})


def test_models_say_their_modes(server: Server) -> None:
    (card,) = server.openai().models.list().data
    assert card.id == MODEL
    assert card.to_dict()["reasoning_modes"] == list(MODES)
