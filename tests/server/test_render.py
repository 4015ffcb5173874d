"""What is added to vLLM's bodies and events, and what is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.stubs import END, MARKERS, completion, engine_config, output
from sottovoce_router import Capabilities
from sottovoce_server.render import Renderer, render_lines, with_modes
from sottovoce_server.tally import Tally
from sottovoce_server.translate import translate

ROUTED = {
    "mode": "routed",
    "policy": "thinkrouter",
    "threshold": 0.7,
    "arm": None,
    "thinking_budget": None,
}
EXPLICIT = {
    "mode": "explicit",
    "policy": None,
    "threshold": None,
    "arm": None,
    "thinking_budget": None,
}
CHOICE: dict[str, Any] = {"index": 0, "finish_reason": None, "delta": {}}
ENDED = {**CHOICE, "finish_reason": "stop"}


class Exchange:
    """A request's renderer and tally."""

    def __init__(self, endpoint: str = "chat", **fields: Any) -> None:
        asked = {"reasoning_mode": "routed", "include_reasoning_trace": True, **fields}
        capabilities = Capabilities.from_config(engine_config())
        translation = translate(asked, endpoint, capabilities, {})
        self.tally = Tally(MARKERS, str, 2, translation.num_prompts, translation.num_per_prompt)
        self.renderer = Renderer(translation, self.tally)

    def generate(self, index: int, *token_ids: int) -> None:
        """Let the engine give these tokens."""
        routes = ["forced" if token == END else "soft" for token in token_ids]
        self.tally.watch(output("chatcmpl-a", completion(index, token_ids, routes)))

    def whole(self, data: Any) -> Any:
        """A body as the client gets it."""
        return json.loads(self.renderer.whole(json.dumps(data).encode()))

    def event(self, **data: Any) -> Any:
        """An event as the client gets it."""
        self.renderer.event(data)
        return data


def trace_ids(holder: Any) -> list[int]:
    return [step["token_id"] for step in holder.get("routing", {}).get("trace", [])]


def test_arm() -> None:
    """Of a request that was drawn for one."""
    capabilities = Capabilities.from_config(engine_config())
    for arm, mode in (("treatment", "routed"), ("control", "explicit")):
        translation = translate({}, "chat", capabilities, {}, "routed", arm=arm)
        answer = Renderer(translation, Tally(MARKERS, str, 2)).whole(b"{}")
        routing = json.loads(answer)["routing"]
        assert (routing["arm"], routing["mode"]) == (arm, mode)


def test_whole_chat() -> None:
    exchange = Exchange(n=2)
    exchange.generate(0, 11, END)
    exchange.generate(1, 21)
    choices = [{"index": i, "message": {"reasoning": "hm", "content": None}} for i in (0, 1)]
    usage = {"completion_tokens": 3, "completion_tokens_details": {"other": 1}}
    answer = exchange.whole({"id": "a", "choices": choices, "usage": usage})
    assert [trace_ids(choice) for choice in answer["choices"]] == [[11, END], [21]]
    assert answer["choices"][0]["message"]["reasoning_content"] == "hm"
    assert answer["routing"] == ROUTED
    assert answer["usage"]["completion_tokens_details"] == {
        "other": 1, "reasoning_tokens": 3, "soft_steps": 2, "discrete_steps": 0,
        "forced_steps": 1, "latent_steps": 0, "switches": 0, "layers_run": 2, "layers_skipped": 0,
    }  # fmt: skip


@pytest.mark.parametrize("endpoint", ["responses", "messages"])
def test_whole_without_choices(endpoint: str) -> None:
    exchange = Exchange(endpoint)
    exchange.generate(0, 11)
    answer = exchange.whole({"id": "a", "usage": {"output_tokens": 1}})
    assert trace_ids(answer) == [11]
    assert answer["routing"] | ROUTED == answer["routing"]
    assert answer["usage"]["output_tokens_details"]["soft_steps"] == 1


def test_null_stays_null() -> None:
    """vLLM's answer to a client that has gone."""
    assert Exchange().renderer.whole(b"null") == b"null"


def test_no_usage_no_details() -> None:
    assert Exchange().whole({"choices": [], "usage": None})["usage"] is None
    assert Exchange().whole({"choices": [], "usage": {"a": 1}})["usage"] == {"a": 1}


def test_request_that_fell_back_to_explicit() -> None:
    exchange = Exchange(include_reasoning_trace=False)
    exchange.tally.watch(output("chatcmpl-a", completion(0, [11, 12], [None, None])))
    assert exchange.whole({"choices": []})["routing"] == EXPLICIT


def test_streamed_steps_come_once() -> None:
    exchange = Exchange(n=2)
    exchange.generate(0, 11, 12)
    first = exchange.event(choices=[{**CHOICE, "delta": {"reasoning": "a"}}])
    assert first["choices"][0]["delta"]["reasoning_content"] == "a"
    assert trace_ids(first["choices"][0]) == [11, 12]
    again = exchange.event(choices=[dict(CHOICE)])
    assert "routing" not in again["choices"][0]
    exchange.generate(1, 21)
    exchange.generate(0, END)
    both = exchange.event(choices=[{**CHOICE, "index": 1}, dict(CHOICE)])
    assert [trace_ids(choice) for choice in both["choices"]] == [[21], [END]]


def test_summary_waits_for_every_choice() -> None:
    """Also for those that have not begun when the first one ends."""
    exchange = Exchange(n=3)
    for index in (2, 0):
        assert "routing" not in exchange.event(choices=[{**ENDED, "index": index}])
    assert exchange.event(choices=[{**ENDED, "index": 1}])["routing"] == ROUTED


def test_summary_is_in_the_usage_event() -> None:
    exchange = Exchange(stream_options={"include_usage": True})
    exchange.generate(0, 11)
    assert "routing" not in exchange.event(choices=[dict(CHOICE)], usage={"total_tokens": 1})
    assert "routing" not in exchange.event(choices=[dict(ENDED)])
    last = exchange.event(choices=[], usage={"total_tokens": 2})
    assert last["routing"] == ROUTED
    assert last["usage"]["completion_tokens_details"]["soft_steps"] == 1


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_responses_events(kind: str) -> None:
    exchange = Exchange("responses")
    assert "routing" not in exchange.event(type="response.created", response={"usage": None})
    exchange.generate(0, 11)
    assert trace_ids(exchange.event(type="response.reasoning_text.delta", delta="a")) == [11]
    exchange.generate(0, 12)
    last = exchange.event(type=f"response.{kind}", response={"usage": {"output_tokens": 2}})
    assert trace_ids(last) == [12]
    assert last["response"]["routing"] == ROUTED
    assert last["response"]["usage"]["output_tokens_details"]["soft_steps"] == 2


def test_messages_events() -> None:
    exchange = Exchange("messages")
    exchange.generate(0, 11)
    first = exchange.event(type="content_block_delta", delta={"thinking": "a"})
    assert trace_ids(first) == [11]
    last = exchange.event(type="message_delta", usage={"output_tokens": 1})
    assert last["routing"] == ROUTED
    assert last["usage"]["output_tokens_details"]["soft_steps"] == 1
    assert exchange.event(type="message_stop") == {"type": "message_stop"}


def mark(event: dict[str, Any]) -> None:
    event["seen"] = True


def test_lines() -> None:
    lines = b': ping\nevent: x\nid: 7\ndata: {"a":"\xc3\xa9 \\ud800"}\n\ndata: [DONE]\n\n'
    assert render_lines(lines, mark) == (
        b': ping\nevent: x\nid: 7\ndata: {"a":"\xc3\xa9 \\ud800","seen":true}\n\ndata: [DONE]\n\n'
    )


def test_error_in_a_stream_has_a_stable_code() -> None:
    line = b'data: {"error": {"message": "m", "type": "InternalServerError", "code": 500}}'
    error = json.loads(render_lines(line, mark)[6:])["error"]
    assert error == {
        "message": "m",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


def test_modes_of_models() -> None:
    models = b'{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}'
    trained = {"shortcuts": {"steps": 2}, "latent": None}
    cards = json.loads(with_modes(models, ["explicit"], {"threshold": 0.5}, trained))["data"]
    assert [card["reasoning_modes"] for card in cards] == [["explicit"]] * 2
    assert [card["routing_defaults"] for card in cards] == [{"threshold": 0.5}] * 2
    assert [card["shortcuts"] for card in cards] == [{"steps": 2}] * 2
    assert [card["latent"] for card in cards] == [None] * 2
