"""Responses on their way out: streams line by line, whole bodies, and what is none of ours."""

from __future__ import annotations

import json

import pytest

from server.front import JSON, REQUEST, SSE, App, Front, watched

STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"reasoning":"\xc3\xa9"},"finish_reason":null}]}\n\n'
    b": keep-alive\n\n"
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_events_split_anywhere(size: int) -> None:
    """vLLM sends whole events; a middleware between us need not."""
    parts = tuple(STREAM[i : i + size] for i in range(0, len(STREAM), size))
    app = App(headers=SSE, parts=(*parts, b""), generates=watched(11))
    front = Front(app)
    response = front.post({**REQUEST, "reasoning_mode": "routed", "stream": True})
    assert response.headers["x-reasoning-mode"] == "routed"
    lines = response.body.split(b"\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert [event.get("routing", {}).get("mode") for event in events] == [None, "routed"]
    assert events[0]["choices"][0]["delta"]["reasoning_content"] == "\u00e9"
    assert [line for line in lines if line and not line.startswith(b"data: {")] == [
        b": keep-alive",
        b"data: [DONE]",
    ]


def test_stream_passes_on_at_once() -> None:
    """Whole events leave as they come, one message for one."""
    parts = tuple(part + b"\n\n" for part in STREAM.split(b"\n\n")[:-1])
    response = Front(App(headers=SSE, parts=parts)).post({**REQUEST, "stream": True})
    assert len(response.messages) == 1 + len(parts)
    assert all(message["body"].endswith(b"\n") for message in response.messages[1:])


def test_stream_without_a_last_newline() -> None:
    response = Front(App(headers=SSE, parts=(b"data: [DO", b"NE]"))).post(REQUEST)
    assert response.body == b"data: [DONE]"


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"content-type": "text/plain"}, 200, b"# HELP x"),
        ({"content-type": "text/html"}, 404, b"<html>"),
        ({}, 200, b""),
        (JSON, 200, b"null"),
        (JSON, 500, b"oops"),
        ({"content-type": "text/event-stream"}, 200, b"data: {not ours}\n\n"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_answers_pass_untouched(
    headers: dict[str, str], status: int, body: bytes, method: str
) -> None:
    app = App(status=status, headers=headers, parts=(body[:3], body[3:]))
    response = Front(app).ask("/other", b"{" if method == "POST" else b"", method=method)
    assert (response.status, response.body) == (status, body)
    assert response.headers == headers or (headers == JSON and response.body == body)


@pytest.mark.parametrize("body", [b"null", b"oops", b'"text"', b"[]"])
def test_odd_answers_of_generation_routes(body: bytes) -> None:
    assert Front(App(headers=JSON, status=500, parts=(body,))).post(REQUEST).body == body
    text = App(headers={"content-type": "text/plain"}, parts=(body,))
    assert Front(text).post(REQUEST).body == body


def test_client_that_has_gone() -> None:
    """vLLM then answers `null`, with status 200."""
    assert Front(App(parts=(b"null",))).post(REQUEST).body == b"null"


def test_framework_errors_get_our_shape() -> None:
    app = App(status=404, parts=(b'{"detail":"Not Found"}',))
    response = Front(app).ask("/v1/nope", method="GET")
    assert (response.status, response.code) == (404, "not_found")
    assert int(response.headers["content-length"]) == len(response.body)
