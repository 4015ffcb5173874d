"""A gateway around an app that is not vLLM's, and requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from server.stubs import END, completion, engine_config, output
from sottovoce_router.observe import observer
from sottovoce_server.gateway import Gateway

CHAT = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": []}
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass
class App:
    """Says what it is told to, and notes what it was asked."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    parts: tuple[bytes, ...] = (b"{}",)
    generates: Callable[[], None] = lambda: None
    asked: list[Any] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.asked.append((scope["path"], dict(scope["headers"]), body))
        self.generates()
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        *others, last = self.parts
        for part in others:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": last})


@dataclass
class Response:
    """What came out of the gateway."""

    messages: list[Any]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def code(self) -> Any:
        return json.loads(self.body)["error"]["code"]


class Front:
    """A gateway, and requests to it."""

    def __init__(self, app: Any, keys: Iterable[str] = (), **settings: Any) -> None:
        engine = SimpleNamespace(
            vllm_config=engine_config(),
            errored=False,
            shutdown=lambda timeout=None: None,
            renderer=SimpleNamespace(tokenizer=SimpleNamespace(decode=str)),
        )
        args = SimpleNamespace(
            api_key=list(keys), allowed_origins=["*"], allow_credentials=False,
            allowed_methods=["*"], allowed_headers=["*"], **settings,
        )  # fmt: skip
        self.engine = engine
        self._registry = CollectorRegistry()
        self._gateway = Gateway(app, self._registry)
        self._owner = SimpleNamespace(state=SimpleNamespace(args=args, engine_client=engine))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve as an ASGI app, to clients on real sockets."""
        await self._gateway({**scope, "app": self._owner}, receive, send)

    def ask(
        self,
        path: str,
        *parts: bytes,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        hangs_up: bool = False,
    ) -> Response:
        """One request, its body in these parts."""
        pairs = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
        scope = {
            "type": "http", "method": method, "path": path, "headers": pairs,
            "app": self._owner, "root_path": "",
        }  # fmt: skip
        incoming: list[Any] = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1 or hangs_up}
            for i, part in enumerate(parts or (b"",))
        ]
        incoming.append({"type": "http.disconnect"})
        sent: list[Any] = []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._gateway(scope, receive, send))
        return Response(sent)

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric's value; None without such a series."""
        return self._registry.get_sample_value(name, labels)

    def start(self) -> list[Any]:
        """What the gateway says when the server starts."""
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._gateway({"type": "lifespan", "app": self._owner}, receive, send))
        return sent

    def post(self, request: Any, path: str = CHAT, **options: Any) -> Response:
        """A JSON request."""
        return self.ask(path, json.dumps(request).encode(), **options)


def watched(*token_ids: int, finish_reason: str | None = None) -> Callable[[], None]:
    """An engine that gives these tokens, thinking, to whoever watches."""

    def generate() -> None:
        watch = observer.get()
        assert watch is not None
        routes = ["forced" if token == END else "soft" for token in token_ids]
        done = completion(0, token_ids, routes, finish_reason)
        done.routing = [
            s._replace(cause="budget") if s.route == "forced" else s for s in done.routing
        ]
        watch(output("chatcmpl-a", done))

    return generate
