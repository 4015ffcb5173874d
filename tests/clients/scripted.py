"""A server that answers from a script, and the two clients behind one face."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from sottovoce_client import AsyncClient, Client, Event

SSE = {"content-type": "text/event-stream; charset=utf-8"}
NOW = 1_700_000_000.0


def step(token: str, route: str = "soft", **fields: Any) -> dict[str, Any]:
    """A thinking step on the wire."""
    best = {"token_id": 1, "token": token, "weight": 0.75}
    other = {"token_id": 2, "token": "?", "weight": 0.25}
    alternatives = [best, other] if route == "soft" else [{**best, "weight": 1.0}]
    values = {"token_id": 1, "p_max": 0.5, "entropy": 1.0, "alternatives": alternatives}
    return {**values, "token": token, "route": route, **fields}


ROUTING = {
    "mode": "routed", "policy": "thinkrouter", "threshold": 0.7, "arm": None, "thinking_budget": 7,
}  # fmt: skip
DETAILS = {"reasoning_tokens": 2, "soft_steps": 1, "discrete_steps": 1, "forced_steps": 0}
USAGE = {
    "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9,
    "completion_tokens_details": {**DETAILS, "switches": 1, "layers_run": 8, "layers_skipped": 0},
}  # fmt: skip
TRACE = [step("Hm"), step(" é", "discrete")]
WHOLE = {
    "id": "chatcmpl-1",
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "reasoning": "Hm é", "content": "Näh, 42."},
            "finish_reason": "stop",
            "routing": {"trace": TRACE},
        }
    ],
    "usage": USAGE,
    "routing": ROUTING,
}


def chunk(delta: dict[str, Any], *steps: Any, **choice: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    routing = {"routing": {"trace": list(steps)}} if steps else {}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, **routing, **choice}]}


CHUNKS: list[dict[str, Any]] = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning": "Hm", "reasoning_content": "Hm"}, TRACE[0]),
    chunk({"reasoning": " é", "reasoning_content": " é"}, TRACE[1]),
    chunk({"content": "Näh,"}),
    chunk({"content": " 42."}, finish_reason="stop"),
    {"id": "chatcmpl-1", "choices": [], "usage": USAGE, "routing": ROUTING},
]


def sse(chunks: Iterable[Any], end: str = "data: [DONE]\n\n") -> bytes:
    """The bytes of a stream."""
    lines = [f"data: {json.dumps(c, ensure_ascii=False)}\n\n" for c in chunks]
    return ("".join(lines) + end).encode()


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in parts, which may end in an exception, and notes that it was closed."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = parts
        self.num_sent = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            self.num_sent += 1
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part
            await asyncio.sleep(0)

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def stream_of(*parts: bytes | Exception) -> httpx.Response:
    """A streamed answer."""
    return httpx.Response(200, headers=SSE, stream=Body(*parts))


def refusal(status: int, code: str | None = None, **headers: str) -> httpx.Response:
    """An error in OpenAI's shape."""
    error = {"message": f"no: {status}", "type": "t", "param": "key", "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": error}, headers=named)


@dataclass
class Script:
    """Gives its answers in turn, the last one again and again, and notes what it was asked."""

    answers: list[httpx.Response | Exception]
    requests: list[httpx.Request] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def bodies(self) -> list[Any]:
        """What was asked, as JSON."""
        return [json.loads(request.content) for request in self.requests]

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a client of this server."""
        fixed = {"clock": lambda: NOW, "rng": random.Random(7)}
        return {"transport": httpx.MockTransport(self), **fixed, **options}


class SyncFace:
    """`Client`."""

    def __init__(self, script: Script, url: str = "http://host:1/v1", **options: Any) -> None:
        self.client = Client(url, sleep=script.waits_s.append, **script.options(options))

    def models(self) -> Any:
        return self.client.models()

    def chat(self, prompt: Any = "Hi", **options: Any) -> Any:
        return self.client.chat(prompt, **options)

    def events(self, **options: Any) -> list[Event]:
        """A whole stream."""
        with self.client.stream("Hi", **options) as stream:
            return list(stream)


class AsyncFace:
    """`AsyncClient`, each call in an event loop of its own."""

    def __init__(self, script: Script, url: str = "http://host:1/v1", **options: Any) -> None:
        async def sleep(seconds: float) -> None:
            script.waits_s.append(seconds)

        self.client = AsyncClient(url, sleep=sleep, **script.options(options))

    def models(self) -> Any:
        return asyncio.run(self.client.models())

    def chat(self, prompt: Any = "Hi", **options: Any) -> Any:
        return asyncio.run(self.client.chat(prompt, **options))

    def events(self, **options: Any) -> list[Event]:
        """A whole stream."""

        async def read() -> list[Event]:
            async with self.client.stream("Hi", **options) as stream:
                return [event async for event in stream]

        return asyncio.run(read())


FACES = [SyncFace, AsyncFace]
