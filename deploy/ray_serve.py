"""A Ray Serve application: each replica starts a `sottovoce serve` and passes requests on to it.

`serve run deploy.ray_serve:app`, from the checkout, in an environment with `ray[serve]` and `httpx`
alone. The server runs in a process of its own, by SOTTOVOCE_COMMAND, so that it may live in another
environment: Ray's dependencies and vLLM's need not agree. Ray's own LLM API starts vLLM's engine
without a server in front, and would leave out everything that this one adds.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator

import httpx
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

COMMAND = os.environ.get("SOTTOVOCE_COMMAND", "sottovoce serve tiny-reasoner")
NUM_REPLICAS = int(os.environ.get("SOTTOVOCE_REPLICAS", "2"))
NUM_GPUS = float(os.environ.get("SOTTOVOCE_GPUS_PER_REPLICA", "0"))
START_TIMEOUT_S = 1800.0
STOP_TIMEOUT_S = 140.0  # --drain-timeout-s, and vLLM's processes
LAST_WORDS_S = 1.0
_GONE = {
    "error": {
        "message": "this replica's server has ended: send the request again",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
    }
}
_HOP_BY_HOP = frozenset({"connection", "host", "content-length", "transfer-encoding"})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _client(base: str, timeout: float | None) -> httpx.AsyncClient:
    """Without httpx's own limit of 100 connections: the server it is that queues and refuses."""
    return httpx.AsyncClient(
        base_url=base, timeout=timeout, limits=httpx.Limits(max_connections=None)
    )


@serve.deployment(
    num_replicas=NUM_REPLICAS,
    ray_actor_options={"num_cpus": 0, "num_gpus": NUM_GPUS},
    max_ongoing_requests=1024,  # as --max-queue: the server itself queues, and answers 429
    health_check_period_s=2,
    graceful_shutdown_wait_loop_s=1,
    graceful_shutdown_timeout_s=STOP_TIMEOUT_S,
)
class Replica:
    """One server, which lives and dies with this actor."""

    def __init__(self, command: str) -> None:
        """Start the server by its command line, and return once it is ready."""
        self._line = command
        self._base = f"http://127.0.0.1:{_free_port()}"
        port = self._base.rpartition(":")[2]
        # A killed actor runs no code of ours: the kernel then tells the server to drain and stop.
        tied = ["setpriv", "--pdeathsig", "TERM", "--"]
        words = [*tied, *shlex.split(command), "--host", "127.0.0.1", "--port", port]
        self._server = subprocess.Popen(words, start_new_session=True)
        self._is_stopping = False
        self._client = _client(self._base, timeout=None)
        self._prober = _client(self._base, timeout=10)  # never behind requests
        self._wait_until_ready()
        threading.Thread(target=self._die_with_it, daemon=True).start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                if httpx.get(f"{self._base}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        self._stop()
        raise RuntimeError(f"no server by `{self._line}`: see its log above")

    def _die_with_it(self) -> None:
        """A server that ends by itself takes the actor along, and Ray Serve starts another.

        What comes until Ray Serve knows is told to come again, which a dead actor could not do.
        """
        self._server.wait()
        if not self._is_stopping:
            time.sleep(LAST_WORDS_S)
            os._exit(1)

    def _stop(self) -> None:
        self._is_stopping = True
        if self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, signal.SIGKILL)

    async def check_health(self) -> None:
        """Raise where the server does not answer."""
        (await self._prober.get("/health")).raise_for_status()

    async def __del__(self) -> None:
        """Ray Serve calls this once the replica's requests are done, or its time is up."""
        await asyncio.to_thread(self._stop)

    async def __call__(self, request: Request) -> Response:
        """The server's own answer, chunk by chunk."""
        headers = [(k, v) for k, v in request.headers.raw if k.decode().lower() not in _HOP_BY_HOP]
        target = httpx.URL(path=request.url.path, query=request.url.query.encode())
        passed = self._client.build_request(
            request.method, target, headers=headers, content=await request.body()
        )
        try:
            answer = await self._client.send(passed, stream=True)
        except httpx.TransportError:  # the server is gone, or went before it answered
            return JSONResponse(_GONE, 503, {"retry-after": "1"})

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:  # the client may have hung up: so do we, and the engine stops
                await answer.aclose()

        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
        return StreamingResponse(chunks(), answer.status_code, kept)


app = Replica.bind(COMMAND)  # type: ignore[attr-defined]
