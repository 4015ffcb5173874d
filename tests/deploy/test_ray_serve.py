"""The Ray Serve replica, on a stand-in for Ray, with a small server in place of ours."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shlex
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/die"):
            import os
            os._exit(3)
        self.send_response(418)
        self.send_header("X-Seen", self.headers["X-Asked"] + " " + self.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

ThreadingHTTPServer.request_queue_size = 256
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def _deployment(**options: Any) -> Callable[[Any], Any]:
    def wrap(cls: Any) -> Any:
        cls.bind = lambda command: (cls, command)
        return cls

    return wrap


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`deploy.ray_serve`, with Ray's decorator leaving the class as it is."""
    serve = types.ModuleType("ray.serve")
    serve.deployment = _deployment  # type: ignore[attr-defined]
    ray = types.ModuleType("ray")
    ray.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    monkeypatch.delitem(sys.modules, "deploy.ray_serve", raising=False)
    found = importlib.import_module("deploy.ray_serve")
    monkeypatch.delitem(sys.modules, "deploy.ray_serve")
    found.over = found.Replica.__del__  # Ray awaits it; Python's own collector would not
    del found.Replica.__del__
    return found


class Ended:
    """In place of the end of this process."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.is_over = threading.Event()

    def __call__(self, code: int) -> None:
        self.code = code
        self.is_over.set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Ended:
    found = Ended()
    monkeypatch.setattr(os, "_exit", found)
    return found


@pytest.fixture
def replica(module: Any, ended: Ended) -> Iterator[Any]:
    made = module.Replica(shlex.join([sys.executable, "-c", SERVER]))
    yield made
    made._stop()


def request_of(path: str, body: bytes = b"hello") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"x-asked", b"yes"), (b"host", b"outside"), (b"connection", b"close")]
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"a=1", "headers": headers,
    }  # fmt: skip
    return Request(scope, receive)


def run(replica: Any, asked: Coroutine[Any, Any, None]) -> None:
    """To its end, and then without open connections."""

    async def closing() -> None:
        try:
            await asked
        finally:
            await replica._client.aclose()
            await replica._prober.aclose()

    asyncio.run(closing())


async def _text(answer: StreamingResponse) -> bytes:
    return b"".join([bytes(chunk) async for chunk in answer.body_iterator])  # type: ignore[misc]


def test_an_answer_is_passed_on(replica: Any) -> None:
    async def ask() -> None:
        await replica.check_health()
        answer = await replica(request_of("/v1/models"))
        assert answer.status_code == 418
        assert answer.headers["x-seen"] == "yes /v1/models?a=1"
        assert await _text(answer) == b"hello"

    run(replica, ask())


def test_many_requests_neither_wait_nor_hide_the_health(module: Any, replica: Any) -> None:
    """More at once than httpx's own limit of connections."""

    async def ask() -> None:
        held = await asyncio.wait_for(
            asyncio.gather(*(replica(request_of("/v1/models")) for _ in range(110))), 30
        )
        await asyncio.wait_for(replica.check_health(), 5)
        for answer in held:
            assert await _text(answer) == b"hello"

    run(replica, ask())


def test_a_server_that_ends_takes_the_replica_along(replica: Any, ended: Ended) -> None:
    async def ask() -> None:
        first = await replica(request_of("/die"))
        later = await replica(request_of("/v1/models"))
        for answer in (first, later):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            error = json.loads(answer.body)["error"]
            assert error["code"] == "unavailable"
            assert "send the request again" in error["message"]
        with pytest.raises(httpx.TransportError):
            await replica.check_health()

    run(replica, ask())
    assert ended.is_over.wait(10)
    assert ended.code == 1


def test_a_replica_that_is_stopped_does_not_end_the_process(
    module: Any, replica: Any, ended: Ended
) -> None:
    asyncio.run(module.over(replica))
    assert replica._server.poll() is not None
    assert not ended.is_over.wait(1.5)


def test_a_server_that_does_not_start_is_an_error(module: Any) -> None:
    with pytest.raises(RuntimeError, match="no server by `false`: see its log above"):
        module.Replica("false")
