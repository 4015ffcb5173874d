"""A request's body: read up to a limit, parsed, and handed over once more to vLLM's app."""

from __future__ import annotations

import json
from typing import Any

from . import errors
from .reply import Message, Receive, Scope


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: 413, as soon as what was announced or has come is over the limit.
        ClientGoneError: the client hung up.
    """
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise errors.body_too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit:
            raise errors.body_too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def parse_object(body: bytes) -> tuple[dict[str, Any], set[str]]:
    """The JSON object in a body, and the names of numbers in it that JSON does not have.

    Raises:
        ApiError: 400, it is not JSON or no object.
    """
    not_finite: set[str] = set()

    def note(name: str) -> float:
        not_finite.add(name)
        return float(name)

    try:
        request = json.loads(body, parse_constant=note)
    except (ValueError, RecursionError) as error:
        raise errors.invalid_json(str(error)) from error
    if not isinstance(request, dict):
        raise errors.invalid_json(f"it holds a {type(request).__name__}")
    return request, not_finite


def with_body(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """A request with this body, then whatever else the client does (disconnect)."""
    headers = [
        (k, v) for k, v in scope["headers"] if k not in (b"content-length", b"transfer-encoding")
    ]
    headers.append((b"content-length", str(len(body)).encode()))
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers}, replayed
