"""Over HTTP: what a trace costs a request, and what being scraped costs a server.

Every step must be soft, for a trace holds nothing of the others: SmolLM2 does not end its thinking
by itself, and the usage is checked.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from sottovoce_server.demo import running_server

from ..pairing import paired, report

_MODEL = "smollm2"
_SCRAPE_S = 1.0  # fifteen times as often as Prometheus does by default


def _body(steps: int, **more: Any) -> dict[str, Any]:
    # No end of the turn, which is never mixed, and no tokens kept for an answer.
    question = {"role": "user", "content": "Explain step by step why the sky is blue."}
    return {
        "model": _MODEL, "messages": [question], "reasoning_mode": "latent",
        "routing": {"cold_stop": None, "min_answer_tokens": 0}, "temperature": 0.6,
        "min_tokens": steps, "max_tokens": steps, "stream": True,
        "stream_options": {"include_usage": True}, **more,
    }  # fmt: skip


def check_soft(stream: str, steps: int) -> None:
    """Raise RuntimeError unless a stream's usage, in its last chunk, says that so many steps were soft."""
    *_, last = (line for line in stream.splitlines() if line.startswith("data: {"))
    details = json.loads(last.removeprefix("data: "))["usage"]["completion_tokens_details"]
    if details["soft_steps"] != steps:
        raise RuntimeError(f"not all of {steps} steps were soft: {details}")


def _seconds(client: httpx.Client, body: dict[str, Any], concurrent: int) -> float:
    """Until the last of several equal streams has ended."""

    def ask(_: int) -> None:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.read()
            response.raise_for_status()
            streams.append(response.text)

    streams = list[str]()
    started = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as pool:
        list(pool.map(ask, range(concurrent)))
    elapsed = time.perf_counter() - started
    for stream in streams:
        check_soft(stream, body["max_tokens"])
    return elapsed


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


def bench(concurrent: int, steps: int, rounds: int) -> None:
    """Rows of a traced request over an untraced one, and of a scraped server over one left alone."""
    about = {"model": _MODEL, "concurrent": concurrent, "steps": steps}
    plain = _body(steps)
    traced = {**plain, "include_reasoning_trace": True}
    with (
        running_server(_MODEL) as base,
        httpx.Client(base_url=base, timeout=600.0) as client,
    ):

        def run(name: str, body: dict[str, Any]) -> float:
            seconds = _seconds(client, body, concurrent)
            print(f"  {name}: {seconds:.2f} s", flush=True)
            return seconds

        def run_scraped() -> float:
            with _scraped(base):
                return run("scraped", plain)

        pairs = paired(
            lambda: run("traced", traced), lambda: run("plain", plain), rounds, rest_s=0.0
        )
        report("http", about, "streamed, traced over untraced", pairs)
        pairs = paired(run_scraped, lambda: run("plain", plain), rounds, rest_s=0.0)
        report("http", about, f"streamed, scraped every {_SCRAPE_S:g} s over not", pairs)
