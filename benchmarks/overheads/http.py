"""Over HTTP: what a trace costs a request, and what being scraped costs a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from sottovoce_server.demo import running_server

from ..pairing import paired, report

_SCRAPE_S = 1.0  # fifteen times as often as Prometheus does by default


def _body(model: str, steps: int, **more: Any) -> dict[str, Any]:
    return {
        "model": model, "messages": [{"role": "user", "content": "What is 17 + 25?"}],
        "reasoning_mode": "latent", "routing": {"cold_stop": None}, "temperature": 0.6,
        "max_tokens": steps, "ignore_eos": True, "stream": True, **more,
    }  # fmt: skip


def _seconds(client: httpx.Client, body: dict[str, Any], concurrent: int) -> float:
    """Until the last of several equal streams has ended."""

    def ask(_: int) -> None:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.read()
            response.raise_for_status()

    started = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as pool:
        list(pool.map(ask, range(concurrent)))
    return time.perf_counter() - started


@contextmanager
def _scraped(base: str) -> Iterator[None]:
    """Something reads the metrics all the while."""
    done = threading.Event()

    def scrape() -> None:
        with httpx.Client(base_url=base, timeout=60.0) as client:
            client.get("/metrics").raise_for_status()
            while not done.wait(_SCRAPE_S):
                client.get("/metrics").raise_for_status()

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(scrape)
        try:
            yield
        finally:
            done.set()
        reader.result()  # raises what went wrong there


def bench(model: str, concurrent: int, steps: int, rounds: int) -> None:
    """Rows of a traced request over an untraced one, and of a scraped server over one left alone."""
    about = {"model": model, "concurrent": concurrent, "steps": steps}
    plain = _body(model, steps)
    traced = {**plain, "include_reasoning_trace": True}
    with (
        running_server(model) as base,
        httpx.Client(base_url=base, timeout=600.0) as client,
    ):

        def run(body: dict[str, Any]) -> float:
            return _seconds(client, body, concurrent)

        def run_scraped() -> float:
            with _scraped(base):
                return run(plain)

        pairs = paired(lambda: run(traced), lambda: run(plain), rounds, rest_s=0.0)
        report("http", about, "streamed, traced over untraced", pairs)
        pairs = paired(run_scraped, lambda: run(plain), rounds, rest_s=0.0)
        report("http", about, f"streamed, scraped every {_SCRAPE_S:g} s over not", pairs)
