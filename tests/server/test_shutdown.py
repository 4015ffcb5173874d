"""SIGTERM under load: what was accepted is answered in full, and nothing more is taken."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from server.serving import Server, wait_for
from server.talk import CHAT, CHAT_ROUTE, LONG, assert_error, post

EXIT_TIMEOUT_S = 120.0
LOAD = {**LONG, "n": 4}


def read_stream(server: Server) -> tuple[int, list[str]]:
    """Tokens and finish reasons of a stream that ends as it should."""
    request = {**LOAD, "stream": True, "stream_options": {"include_usage": True}}
    with server.http() as client, client.stream("POST", CHAT_ROUTE, json=request) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    return events[-1]["usage"]["completion_tokens"], [reason for reason in reasons if reason]


def read_whole(server: Server) -> tuple[int, list[str]]:
    """The same of an answer in one piece."""
    answer = post(server, LOAD)
    return answer["usage"]["completion_tokens"], [c["finish_reason"] for c in answer["choices"]]


def test_sigterm_loses_nothing(limited: Server) -> None:
    assert wait_for(limited.is_idle, 30)
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        futures: list[Future[Any]] = [
            pool.submit(read_stream, limited),
            pool.submit(read_stream, limited),
            pool.submit(read_whole, limited),
        ]
        with limited.frozen_engine(), limited.http() as client:
            assert wait_for(limited.is_full, 30)
            limited.process.send_signal(signal.SIGTERM)
            assert wait_for(lambda: client.get("/ready").status_code == 503, 30)
            refused = client.post(CHAT_ROUTE, json=CHAT)
            assert_error(refused, 503, "draining", "retry")
            assert refused.headers["retry-after"]
            assert not any(future.done() for future in futures)
        assert [future.result() for future in futures] == [(4 * 480, ["length"] * 4)] * 3
    assert limited.process.wait(EXIT_TIMEOUT_S) == 0
    assert time.monotonic() - started < EXIT_TIMEOUT_S
    with pytest.raises(httpx.ConnectError):
        httpx.get(limited.base + "/health")
    assert "Exception in ASGI" not in limited.log
