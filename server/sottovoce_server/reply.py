"""A response on its way out: errors in one shape, bodies and events with what was added to them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from . import errors
from .render import render_lines

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Changes:
    """What a good response gets; None leaves bodies or events as they are."""

    headers: Headers = field(default_factory=list)
    body: Callable[[bytes], bytes] | None = None
    event: Callable[[dict[str, Any]], None] | None = None


def _with_length(headers: Headers, body: bytes) -> Headers:
    kept = [(k, v) for k, v in headers if k != b"content-length"]
    return [*kept, (b"content-length", str(len(body)).encode())]


class Reply:
    """Stands in for `send`: streams pass line by line, bodies that change are held until whole."""

    def __init__(self, send: Send, changes: Changes) -> None:
        self._send, self._changes = send, changes
        self._start: Message = {}
        self._change: Callable[[bytes], bytes] | None = None
        self._streams = False
        self._held = b""
        self.status = 0
        self.code: str | None = None  # of an error
        self.is_complete = False

    async def __call__(self, message: Message) -> None:
        """Take one ASGI message of the app's."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._streams:
            await self._stream(message.get("body", b""), message.get("more_body", False))
        elif self._change is not None:
            await self._hold(message.get("body", b""), message.get("more_body", False))
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = [(k.lower(), v) for k, v in message["headers"]]
        self.status, kind = message["status"], dict(headers).get(b"content-type", b"")
        is_error = self.status >= 400
        self.code = errors.code_of(self.status) if is_error else None
        if kind.startswith(b"application/json"):
            self._change = errors.in_shape(self.status) if is_error else self._changes.body
        self._streams = self._changes.event is not None and kind.startswith(b"text/event-stream")
        self._start = {**message, "headers": [*headers, *self._changes.headers]}
        if self._change is None:
            await self._send(self._start)

    async def _hold(self, body: bytes, more: bool) -> None:
        self._held += body
        if more:
            return
        assert self._change is not None
        whole = self._change(self._held)
        if self.code is not None:
            self.code = errors.code_of(self.status, whole)
        await self._send({**self._start, "headers": _with_length(self._start["headers"], whole)})
        await self._send({"type": "http.response.body", "body": whole, "more_body": False})

    async def _stream(self, body: bytes, more: bool) -> None:
        assert self._changes.event is not None
        lines, newline, self._held = (self._held + body).rpartition(b"\n")
        if not more:
            lines, self._held = lines + newline + self._held, b""
            newline = b""
        out = render_lines(lines, self._changes.event) + newline
        await self._send({"type": "http.response.body", "body": out, "more_body": more})


@dataclass(frozen=True)
class Answer:
    """An ASGI app that says one thing: the gateway's own responses."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the request's id or a new one."""
        request_id = dict(scope["headers"]).get(b"x-request-id") or uuid.uuid4().hex.encode()
        headers = [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"x-request-id", request_id)]
        headers = _with_length(headers, self.body)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
