"""A server in a thread that gives one answer, for programs that open connections of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clients.scripted import CHUNKS, WHOLE, sse

CARD = {
    "id": "tiny",
    "object": "model",
    "reasoning_modes": ["explicit", "latent", "routed"],
    "routing_defaults": {},
}


class _Handler(BaseHTTPRequestHandler):
    bodies: list[Any]

    def do_GET(self) -> None:
        self._answer("application/json", json.dumps({"object": "list", "data": [CARD]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body)
        if body.get("stream"):
            self._answer("text/event-stream", sse(CHUNKS))
        else:
            self._answer("application/json", json.dumps(WHOLE).encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def http_stub() -> Iterator[tuple[str, list[Any]]]:
    """Its address, and the bodies of the requests it gets."""
    bodies: list[Any] = []
    handler = type("Handler", (_Handler,), {"bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", bodies
        finally:
            server.shutdown()
            thread.join()
