"""A server asked over HTTP, ours or llama.cpp's, as a program of `engine.py`.

One client for both: a stream for every request of a batch, all at once, of the same token ids. The
client is part of this program, and of its memory, whichever server it asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
from tokenizers import Tokenizer

from sottovoce_server.demo import running_server

from ..engine import answer_jobs, llama_python

_TIMEOUT_S = 900.0
# In the order of vLLM's; ours takes no notice of it, as llama.cpp's takes none of the mode.
_BODY: dict[str, Any] = {
    "stream": True, "stream_options": {"include_usage": True}, "reasoning_mode": "explicit",
    "samplers": ["temperature", "top_k", "top_p", "min_p"],
}  # fmt: skip


def flags(options: dict[str, Any]) -> list[str]:
    """Options of an engine as `sottovoce serve` takes them."""
    named = ((f"--{key.replace('_', '-')}", str(value)) for key, value in options.items())
    return [word for pair in named for word in pair]


@contextmanager
def _running_llama(options: dict[str, Any]) -> Iterator[str]:
    """llama.cpp's server on a free port; yields its base address."""
    with subprocess.Popen(
        [llama_python(), "-m", "benchmarks.peers.llama_server", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            found = next((line for line in process.stdout if line.startswith("@")), None)
            if found is None:
                raise RuntimeError("llama.cpp's server stopped; run it alone to see why")
            yield found[1:].strip()
        finally:
            process.stdin.close()


def num_tokens(stream: str) -> int:
    """How many tokens a stream says that it was."""
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return next(int(e["usage"]["completion_tokens"]) for e in reversed(events) if e.get("usage"))


def asked(client: httpx.Client, bodies: list[dict[str, Any]]) -> list[float]:
    """Seconds from the first request's submission to the end of each stream.

    Raises:
        RuntimeError: if one is not as long as it was asked to be.
    """

    def ask(body: dict[str, Any]) -> tuple[float, str]:
        with client.stream("POST", "/v1/completions", json=body) as response:
            text = response.read().decode()
            ended = time.perf_counter() - started
            response.raise_for_status()
        return ended, text

    started = time.perf_counter()
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(ask, bodies))
    for body, (_, text) in zip(bodies, answers, strict=True):
        if (found := num_tokens(text)) != body["max_tokens"]:
            raise RuntimeError(f"{found} tokens of {body['max_tokens']}")
    return [ended for ended, _ in answers]


def main() -> None:
    """Answer jobs until the input ends; the options name the server and the tokenizer's file."""
    options = json.loads(sys.argv[1])
    model, server = options.pop("model"), options.pop("server")
    tokenizer = Tokenizer.from_file(options.pop("tokenizer"))
    running = (
        _running_llama({"model": model, **options})
        if server == "llama.cpp"
        else running_server(model, *flags(options))
    )
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with (
        running as base,
        httpx.Client(base_url=base, timeout=_TIMEOUT_S, limits=limits) as client,
    ):
        name = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]

        def run(prompts: list[str], sampling: list[dict[str, Any]]) -> dict[str, Any]:
            ids = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
            bodies = [
                {**_BODY, "model": name, "prompt": prompt, **each}
                for prompt, each in zip(ids, sampling, strict=True)
            ]
            ends = asked(client, bodies)
            return {"seconds": max(ends), "latencies": ends}

        answer_jobs(run)


if __name__ == "__main__":
    main()
