"""The gateway on a real socket, in front of an app that streams a recorded answer as vLLM would.

Keys, refusals, traces and summaries are the gateway's own; only the engine is not there.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import uvicorn

from server.front import Front
from server.stubs import output
from sottovoce_router import Step
from sottovoce_router.observe import observer
from sottovoce_server.demo import free_port

WORDS = (" 17", " +", " 25", "\n", " is", " 42", "<img src=x onerror=alert(1)>", "", "</think>")
P_MAX = (0.95, 0.42, 0.88, 0.99, 0.31, 0.75, 0.7, 0.66, 1.0)
ANSWER = ("The answer", " is 42", "<b>.</b>")
NUM_STEPS = len(WORDS)
_ROUTES = {
    "explicit": ["discrete"] * NUM_STEPS,
    "latent": [*["soft"] * (NUM_STEPS - 1), "forced"],
    "routed": ["discrete" if p < 0.7 else "soft" for p in P_MAX[:-1]] + ["forced"],
}
MODELS = {"object": "list", "data": [{"id": "tiny"}, {"id": "other"}]}


def routes_of(mode: str) -> list[str]:
    """The recorded route of every step."""
    return _ROUTES[mode]


def _steps(mode: str) -> list[Step]:
    return [
        Step(i, route, p, round(1 - p, 3), ((i, 0.8), ((i + 1) % NUM_STEPS, 0.2)))
        for i, (route, p) in enumerate(zip(_ROUTES[mode], P_MAX, strict=True))
    ]


VECTORS = [
    Step(0, "latent", 0.9, 0.1, ((0, 0.8), (1, 0.2)), text=(0, 1, 2, 3)),
    Step(0, "latent", 0.6, 0.4, ((1, 0.8), (2, 0.2))),
    Step(8, "forced", 1.0, 0.0, ((8, 1.0),)),
]


@dataclass
class Engine:
    """What stands for vLLM's app; a test sets how its streams end."""

    breaks: bool = False  # the connection is lost after three steps
    ends_early: bool = False  # the stream ends there, in good order and without its last event
    error: str = ""  # the stream says this there
    has_vectors: bool = False  # it thinks in these, of which the first is read in words
    holds: bool = False  # the stream goes on from there when the client hangs up
    requests: list[Any] = field(default_factory=list)
    num_hung_up: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/v1/models":
            await _start(send, "application/json")
            await send({"type": "http.response.body", "body": json.dumps(MODELS).encode()})
            return
        request = json.loads((await receive())["body"])
        self.requests.append(request)
        await _start(send, "text/event-stream; charset=utf-8")
        mode = (request.get("vllm_xargs") or {}).get("reasoning_mode", "explicit")
        for i, step in enumerate(VECTORS if self.has_vectors else _steps(mode)):
            if i == 3 and await self._is_over(receive, send):
                return
            _tell(step)
            await _event(send, _chunk({"reasoning": WORDS[i]}))
        for text in ANSWER:
            await _event(send, _chunk({"content": text}))
        await _event(send, _chunk({}, "stop"))
        usage = {"prompt_tokens": 5, "completion_tokens": NUM_STEPS + 3, "total_tokens": 17}
        await _event(send, {**_chunk({}), "choices": [], "usage": usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _is_over(self, receive: Any, send: Any) -> bool:
        if self.breaks:
            await asyncio.sleep(0.1)  # what was sent arrives
            raise ConnectionError("the stream breaks, as a test asked")
        if self.error:
            await _event(send, {"error": {"message": self.error, "code": 500}})
        if self.holds:
            while (await receive())["type"] != "http.disconnect":
                continue
            self.num_hung_up += 1
        if self.ends_early or self.error:
            await send({"type": "http.response.body", "body": b""})
        return self.ends_early or self.holds or bool(self.error)


def _tell(step: Step) -> None:
    watch = observer.get()
    assert watch is not None
    completion = SimpleNamespace(
        index=0, token_ids=[step.token_id], routing=[step], finish_reason=None
    )
    watch(output("chatcmpl-a", completion))


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "chatcmpl-a", "object": "chat.completion.chunk", "choices": [choice]}


async def _start(send: Any, kind: str) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _event(send: Any, event: dict[str, Any]) -> None:
    body = b"data: " + json.dumps(event).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


@dataclass
class Fake:
    """A running server, and its engine."""

    base: str
    engine: Engine


@contextmanager
def running_fake(keys: Sequence[str] = (), **settings: Any) -> Iterator[Fake]:
    """The server in a thread of this process, on a free port."""
    engine = Engine()
    front = Front(engine, keys, **settings)
    front.engine.renderer.tokenizer.decode = lambda ids: "".join(WORDS[i] for i in ids)
    port = free_port()
    config = uvicorn.Config(front, port=port, lifespan="off", ws="none", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        yield Fake(f"http://127.0.0.1:{port}", engine)
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
