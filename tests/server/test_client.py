"""What clients see: the official OpenAI client and plain HTTP against a real server."""

from __future__ import annotations

from typing import Any

import pytest

from server.serving import MODEL, Server
from server.talk import (
    BUDGET,
    CHAT,
    COLD_STOP,
    MAX_TOKENS,
    MODES,
    QUESTION,
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


@pytest.mark.parametrize("mode", MODES)
def test_chat(server: Server, mode: str) -> None:
    raw = server.openai().chat.completions.with_raw_response.create(
        **CHAT, extra_body=ours(mode), extra_headers={"X-Request-Id": "mine-7"}
    )
    assert raw.headers["x-reasoning-mode"] == mode
    assert raw.headers["x-request-id"] == "mine-7"
    answer: Any = raw.parse()
    choice = answer.choices[0]
    assert choice.message.reasoning == choice.message.reasoning_content != ""
    assert choice.message.content
    assert_summary(answer.routing, mode)
    trace = choice.routing["trace"]
    assert answer.usage.completion_tokens == MAX_TOKENS
    assert_consistent(answer.usage.completion_tokens_details.to_dict(), trace, MAX_TOKENS)
    assert trace[-1]["route"] == "forced"
    assert len(trace) == BUDGET
    routes = {step["route"] for step in trace[:-1]}
    expected = {"explicit": {"discrete"}, "latent": {"soft"}, "routed": {"soft", "discrete"}}
    assert routes == expected[mode]


@pytest.mark.parametrize("mode", MODES)
def test_trace_fields(server: Server, mode: str) -> None:
    for step in post(server, body(mode))["choices"][0]["routing"]["trace"]:
        assert 0 < step["p_max"] <= 1
        assert step["entropy"] >= 0
        weights = [alternative["weight"] for alternative in step["alternatives"]]
        assert 1 <= len(weights) <= 10
        assert sum(weights) == pytest.approx(1, abs=1e-5)
        is_below = step["p_max"] < 0.7
        if mode == "routed" and step["route"] != "forced":
            assert (step["route"] == "discrete") == is_below


@pytest.mark.parametrize("mode", MODES)
def test_chat_stream(server: Server, mode: str) -> None:
    whole = post(server, body(mode))
    chunks = [
        chunk.to_dict()
        for chunk in server.openai().chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}, extra_body=ours(mode)
        )
    ]
    message = whole["choices"][0]["message"]
    assert joined(chunks, 0, "reasoning") == message["reasoning"]
    assert joined(chunks, 0, "reasoning_content") == message["reasoning"]
    assert joined(chunks, 0, "content") == message["content"]
    assert outline(steps(chunks)) == outline(whole["choices"][0]["routing"]["trace"])
    *others, last = chunks
    assert last["choices"] == []
    assert_summary(last["routing"], mode)
    details = last["usage"]["completion_tokens_details"]
    assert details == whole["usage"]["completion_tokens_details"]
    assert not any("routing" in chunk for chunk in others)


@pytest.mark.parametrize("n", [1, 3])
def test_stream_without_usage_ends_in_the_summary(server: Server, n: int) -> None:
    chunks = stream(server, body("routed", n=n))
    *others, last = chunks
    assert last["choices"][0]["finish_reason"] is not None
    assert_summary(last["routing"], "routed")
    assert not any("routing" in chunk for chunk in others)
    assert not any(chunk.get("usage") for chunk in chunks)


def test_continuous_usage(server: Server) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    *others, last = stream(server, body("latent", stream_options=options))
    assert all(chunk["usage"] for chunk in others)
    assert [chunk for chunk in (*others, last) if "routing" in chunk] == [last]
    assert last["usage"]["completion_tokens_details"]["soft_steps"] == BUDGET - 1


def test_no_trace_unless_asked(server: Server) -> None:
    request = body("routed", include_reasoning_trace=False)
    whole = post(server, request)
    assert "routing" not in whole["choices"][0]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == BUDGET
    for chunk in stream(server, request):
        assert not any("routing" in choice for choice in chunk["choices"])


def test_explicit_counts_reasoning_without_a_trace(server: Server) -> None:
    request = body("explicit", include_reasoning_trace=False)
    details = post(server, request)["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == BUDGET
    assert details["soft_steps"] == details["discrete_steps"] == details["forced_steps"] == 0


def test_the_default_is_explicit(server: Server) -> None:
    assert_summary(post(server, CHAT)["routing"], "explicit")


def test_trace_does_not_change_the_answer(server: Server) -> None:
    for mode in MODES:
        traced = post(server, body(mode))["choices"][0]["message"]
        plain = post(server, body(mode, include_reasoning_trace=False))["choices"][0]["message"]
        assert traced == plain


@pytest.mark.parametrize("mode", MODES)
def test_n(server: Server, mode: str) -> None:
    request = body(mode, n=2, return_token_ids=True)
    whole = post(server, request)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    traces = [choice["routing"]["trace"] for choice in whole["choices"]]
    for choice, trace in zip(whole["choices"], traces, strict=True):
        assert [step["token_id"] for step in trace] == choice["token_ids"][:BUDGET]
    details = whole["usage"]["completion_tokens_details"]
    assert_consistent(details, traces[0] + traces[1], 2 * MAX_TOKENS, 2)
    chunks = stream(server, request)
    for choice in whole["choices"]:
        index = choice["index"]
        assert joined(chunks, index, "content") == choice["message"]["content"]
        assert outline(steps(chunks, index)) == outline(choice["routing"]["trace"])


PROMPTS: tuple[Any, ...] = (["a<think>", "bb<think>", "c<think>"], [[70, 3], [71, 72, 3], [73, 3]])


@pytest.mark.parametrize("prompts", PROMPTS, ids=["text", "token_ids"])
@pytest.mark.parametrize("mode", MODES)
def test_completions_of_several_prompts(server: Server, mode: str, prompts: Any) -> None:
    """Each choice has its own trace: without a budget, thinking is all that there is."""
    request = {
        "model": MODEL, "prompt": prompts, "n": 2, "max_tokens": 6, "seed": 5, "ignore_eos": True,
        "reasoning_mode": mode, "include_reasoning_trace": True, "return_token_ids": True,
    }  # fmt: skip
    whole = post(server, request, "/v1/completions")
    assert [choice["index"] for choice in whole["choices"]] == list(range(6))
    for choice in whole["choices"]:
        trace = choice["routing"]["trace"]
        assert [step["token_id"] for step in trace] == choice["token_ids"]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 36
    chunks = stream(server, request, "/v1/completions")
    for choice in whole["choices"]:
        index = choice["index"]
        assert joined(chunks, index, "text") == choice["text"]
        assert outline(steps(chunks, index)) == outline(choice["routing"]["trace"])
    assert [chunk for chunk in chunks if "routing" in chunk] == chunks[-1:]


def test_request_id_that_looks_like_a_number(server: Server) -> None:
    """vLLM puts it into its own ids, where prompts are numbered too."""
    with server.http(headers={**server.headers, "X-Request-Id": "job-5"}) as client:
        chat = client.post("/v1/chat/completions", json=body("routed")).json()
        request = {"model": MODEL, "prompt": "a<think>", "max_tokens": 4, "ignore_eos": True}
        completion = client.post("/v1/completions", json={**request, **ours("routed")}).json()
    assert len(chat["choices"][0]["routing"]["trace"]) == BUDGET
    assert len(completion["choices"][0]["routing"]["trace"]) == 4


@pytest.mark.parametrize("mode", MODES)
def test_completions(server: Server, mode: str) -> None:
    request: dict[str, Any] = {"model": MODEL, "prompt": "a<think>", "max_tokens": 12, "seed": 5}
    client = server.openai()
    whole: Any = client.completions.create(**request, extra_body=ours(mode))
    chunks: Any = client.completions.create(**request, stream=True, extra_body=ours(mode))
    pieces = [chunk.to_dict() for chunk in chunks]
    assert joined(pieces, 0, "text") == whole.choices[0].text
    trace = whole.choices[0].routing["trace"]
    assert outline(steps(pieces)) == outline(trace)
    assert_summary(whole.routing, mode)
    assert_summary(pieces[-1]["routing"], mode)
    details = whole.usage.completion_tokens_details.to_dict()
    assert_consistent(details, trace, whole.usage.completion_tokens)


@pytest.mark.parametrize("mode", MODES)
def test_responses(server: Server, mode: str) -> None:
    routing = {} if mode == "explicit" else {"routing": COLD_STOP}
    extra = {"reasoning_mode": mode, "include_reasoning_trace": True, "seed": 3, **routing}
    request: dict[str, Any] = {"model": MODEL, "input": "Hi", "max_output_tokens": MAX_TOKENS}
    client = server.openai()
    whole: Any = client.responses.create(**request, extra_body=extra)
    events: Any = list(client.responses.create(**request, stream=True, extra_body=extra))
    answer = whole.output_text
    assert bool(answer) == (mode != "explicit")
    texts: dict[str, str] = {}
    for event in events:
        if event.type.endswith("text.delta"):
            texts[event.type] = texts.get(event.type, "") + event.delta
    assert texts["response.reasoning_text.delta"] == whole.output[0].content[0].text
    assert texts.get("response.output_text.delta", "") == answer
    trace = whole.routing["trace"]
    shown = [step for e in events for step in (getattr(e, "routing", None) or {}).get("trace", [])]
    assert outline(shown) == outline(trace)
    last = events[-1]
    assert last.type == "response.completed"
    for response in (whole, last.response):
        assert_summary(response.routing, mode)
        assert_consistent(response.usage.output_tokens_details.to_dict(), trace, MAX_TOKENS)


@pytest.mark.parametrize("mode", MODES)
def test_messages(server: Server, mode: str) -> None:
    request = {
        "model": MODEL, "messages": QUESTION, "max_tokens": MAX_TOKENS, "top_k": 1,
        "reasoning_mode": mode, "include_reasoning_trace": True,
    }  # fmt: skip
    if mode != "explicit":
        request["routing"] = COLD_STOP
    whole = post(server, request, "/v1/messages")
    events = stream(server, request, "/v1/messages")
    texts = {"thinking": "", "text": ""}
    for event in events:
        delta = event.get("delta", {})
        for kind in texts:
            texts[kind] += delta.get(kind, "")
    blocks = {block["type"]: block.get(block["type"], "") for block in whole["content"]}
    assert texts == {"text": "", **blocks}
    trace = whole["routing"]["trace"]
    assert outline([s for e in events for s in e.get("routing", {}).get("trace", [])]) == outline(
        trace
    )
    (last,) = (event for event in events if event["type"] == "message_delta")
    for holder in (whole, last):
        assert_summary(holder["routing"], mode)
        assert_consistent(holder["usage"]["output_tokens_details"], trace, MAX_TOKENS)
