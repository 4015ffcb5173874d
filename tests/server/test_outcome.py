"""How requests end: well, refused, failed, or without their client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.front import REQUEST, SSE, App, Front
from sottovoce_server.metrics import OUTCOMES

CHUNK = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": null}]}\n\n'
FAILURES = (
    b'data: {"error": {"message": "m", "code": 500}}\n\n',
    b'event: error\ndata: {"type": "error", "error": {"message": "m"}}\n\n',
    b'data: {"type": "response.failed", "response": {}}\n\n',
)


def outcomes(front: Front) -> dict[str, float]:
    """How many requests ended how."""
    labels = {"mode": "explicit", "policy": "none"}
    counts = {o: front.metric("sottovoce_requests_total", outcome=o, **labels) for o in OUTCOMES}
    return {outcome: count for outcome, count in counts.items() if count}


@pytest.mark.parametrize("status", [200, 400, 500])
def test_status(status: int) -> None:
    front = Front(App(status=status))
    front.post(REQUEST)
    assert outcomes(front) == {{200: "ok", 400: "refused", 500: "failed"}[status]: 1}


def test_a_whole_stream() -> None:
    front = Front(App(headers=SSE, parts=(CHUNK, b"data: [DONE]\n\n")))
    front.post({**REQUEST, "stream": True})
    assert outcomes(front) == {"ok": 1}


@pytest.mark.parametrize("event", FAILURES)
def test_a_stream_that_fails(event: bytes) -> None:
    """Long after its status was sent."""
    front = Front(App(headers=SSE, parts=(CHUNK, event, b"data: [DONE]\n\n")))
    front.post({**REQUEST, "stream": True})
    assert outcomes(front) == {"failed": 1}


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyError(), "failed"), (asyncio.CancelledError(), "cancelled")]
)
def test_an_app_that_raises(error: BaseException, outcome: str) -> None:
    def fail() -> None:
        raise error

    front = Front(App(generates=fail))
    with pytest.raises(type(error)):
        front.post(REQUEST)
    assert outcomes(front) == {outcome: 1}


@pytest.mark.parametrize("hangs_up_after", [0, 1, 2])
def test_a_client_that_hangs_up(hangs_up_after: int) -> None:
    """Before the answer, inside it, or when it has it all, which is no one's loss."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"a/b")],
        }
        parts = [{"type": "http.response.body", "body": b"x", "more_body": i == 0} for i in (0, 1)]
        if hangs_up_after == 0:
            assert (await receive())["type"] == "http.disconnect"
        await send(start)
        for i, part in enumerate(parts):
            await send(part)
            if hangs_up_after == i + 1:
                assert (await receive())["type"] == "http.disconnect"

    front = Front(app)
    front.post(REQUEST)
    assert outcomes(front) == {"ok" if hangs_up_after == 2 else "cancelled": 1}


def test_a_stream_that_just_stops() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})

    front = Front(app)
    front.post({**REQUEST, "stream": True})
    assert outcomes(front) == {"cancelled": 1}
