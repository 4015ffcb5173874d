"""`make demo`: start the server, ask the same questions in the three modes, print a table."""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import httpx

MODES = ("explicit", "latent", "routed")
MAX_TOKENS = 256
START_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Script:
    """What a model is asked."""

    questions: tuple[str, ...]
    thinking_budget: int


# The wording of the families that the tiny reasoner learnt.
_SOLVABLE = Script(
    (
        "State the final answer to the following arithmetic problem: 84 - 12 - 92 =",
        "Find the Greatest Common Divisor (GCD) of these numbers: 46, 76. Give only the GCD as "
        "your final answer.",
        "Your task is to count how many legs there are in total when given a list of animals.\n\n"
        "Now, how many legs are there in total if you have 4 spiders, 7 dogs?",
    ),
    192,
)
# A model that was never trained to think may never stop.
_GENERAL = Script(
    (
        "What is 17 + 25?",
        "Name the capital of France.",
        "Which is heavier, a kilogram of feathers or a kilogram of iron?",
    ),
    48,
)
SCRIPTS: dict[str, Script] = {"tiny-reasoner": _SOLVABLE}


def script_of(model: str) -> Script:
    """A model's own script, or the general one."""
    return SCRIPTS.get(model, _GENERAL)


@dataclass(frozen=True)
class Answer:
    """One cell of the table."""

    mode: str
    text: str
    reasoning_tokens: int
    soft_steps: int
    mean_p_max: float
    seconds: float


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_until_ready(
    process: subprocess.Popen[bytes], base: str, log: IO[bytes], timeout_s: float
) -> float:
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        elapsed = time.monotonic() - started
        print(f"\r  starting the server ... {elapsed:4.0f} s", end="", file=sys.stderr, flush=True)
        if process.poll() is not None:
            log.seek(0)
            sys.exit(
                "\nthe server stopped while starting:\n"
                + log.read().decode(errors="replace")[-4000:]
            )
        try:
            if httpx.get(f"{base}/ready", timeout=2.0).status_code == 200:
                print(f"\r  the server was ready after {elapsed:.0f} s      ", file=sys.stderr)
                return elapsed
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"\nthe server was not ready after {timeout_s:.0f} s")


@contextmanager
def running_server(model: str, *flags: str, timeout_s: float = START_TIMEOUT_S) -> Iterator[str]:
    """The server on a free port, stopped at the end; yields its base address."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sottovoce_server", "serve", model, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *flags], stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, base, log, timeout_s)
            yield base
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def request_body(model: str, mode: str, question: str) -> dict[str, Any]:
    """What the demo sends; the seed makes it repeatable."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "reasoning_mode": mode,
        "include_reasoning_trace": True,
        "thinking_token_budget": script_of(model).thinking_budget,
        "max_tokens": MAX_TOKENS,
        "temperature": 0.6,
        "seed": 7,
    }


def ask(client: httpx.Client, body: dict[str, Any]) -> Answer:
    """Send one question."""
    started = time.monotonic()
    response = client.post("/v1/chat/completions", json=body)
    seconds = time.monotonic() - started
    response.raise_for_status()
    data = response.json()
    choice, details = data["choices"][0], data["usage"]["completion_tokens_details"]
    trace = choice["routing"]["trace"]
    p_max = sum(step["p_max"] for step in trace) / max(len(trace), 1)
    message = choice["message"]
    # SmolLM2 may end its turn while it still thinks.
    said = message["content"] or f"(only thought) {message['reasoning'] or ''}"
    text = " ".join(said.split())
    mode = data["routing"]["mode"]
    return Answer(mode, text, details["reasoning_tokens"], details["soft_steps"], p_max, seconds)


def table(answers: list[Answer]) -> str:
    """The answers to one question as aligned text."""
    rows = [("mode", "reasoning", "soft", "mean p_max", "seconds", "answer")]
    for a in answers:
        text = a.text if len(a.text) <= 60 else a.text[:57] + "..."
        rows.append(
            (a.mode, str(a.reasoning_tokens), str(a.soft_steps), f"{a.mean_p_max:.2f}",
             f"{a.seconds:.1f}", text)
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def curl_line(base: str, body: dict[str, Any]) -> str:
    """The same request for a shell."""
    brief = {k: body[k] for k in ("model", "messages", "reasoning_mode", "thinking_token_budget")}
    data = shlex.quote(json.dumps(brief))
    return f"curl {base}/v1/chat/completions -H 'Content-Type: application/json' -d {data}"


def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--model", default="tiny-reasoner")
    model: str = parser.parse_args(argv).model
    flags = ("--max-num-seqs", "16")
    with (
        running_server(model, *flags) as base,
        httpx.Client(base_url=base, timeout=300.0) as client,
    ):
        # A first request compiles what the others reuse.
        ask(client, request_body(model, "latent", "Hello"))
        questions = script_of(model).questions
        for question in questions:
            print(f"\n{question}")
            print(table([ask(client, request_body(model, mode, question)) for mode in MODES]))
        print("\nThe same by hand, after `make serve` (port 8000):")
        for mode in MODES:
            print(curl_line("http://localhost:8000", request_body(model, mode, questions[0])))


if __name__ == "__main__":
    main()
