"""One client for two servers: what it asks, what it accepts as an answer, and that no server stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.peers import http


def stream_of(tokens: int) -> str:
    """As both servers end a stream: text, usage, and a word that is no JSON."""
    events = [{"choices": [{"text": "a"}]}, {"choices": [], "usage": {"completion_tokens": tokens}}]
    return "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"


def client_of(seen: list[Any], fewer: int = 0) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        seen.append((request.url.path, body))
        return httpx.Response(200, text=stream_of(body["max_tokens"] - fewer))

    return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://x")


def test_every_request_of_a_batch_is_a_stream_with_an_end() -> None:
    seen: list[Any] = []
    ends = http.asked(client_of(seen), [{"max_tokens": n} for n in (3, 5, 4)])
    assert len(ends) == 3
    assert all(end > 0 for end in ends)
    assert sorted(body["max_tokens"] for _, body in seen) == [3, 4, 5]
    assert {path for path, _ in seen} == {"/v1/completions"}


def test_a_stream_that_is_too_short_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="2 tokens of 3"):
        http.asked(client_of([], fewer=1), [{"max_tokens": 3}])


def test_a_refusal_is_raised() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(400, text="no"))
    with pytest.raises(httpx.HTTPStatusError):
        http.asked(httpx.Client(transport=transport, base_url="http://x"), [{"max_tokens": 3}])


def test_options_become_flags() -> None:
    assert http.flags({"max_num_seqs": 16, "dtype": "float32"}) == [
        "--max-num-seqs", "16", "--dtype", "float32",
    ]  # fmt: skip


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter that runs a script in place of what it is told to."""
    script, python = tmp_path / "server.py", tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$3"\n')
    python.chmod(0o755)
    monkeypatch.setattr(http, "llama_python", lambda: str(python))
    return script


def test_llama_cpps_server_ends_with_its_input(llama: Path, tmp_path: Path) -> None:
    llama.write_text(
        "import pathlib, sys\nprint('a log')\nprint('@http://there', flush=True)\n"
        f"sys.stdin.read()\npathlib.Path({str(tmp_path)!r}, 'end').write_text(sys.argv[1])\n"
    )
    with http._running_llama({"model": "m"}) as base:
        assert base == "http://there"
        assert not (tmp_path / "end").exists()
    assert json.loads((tmp_path / "end").read_text()) == {"model": "m"}


def test_a_server_that_does_not_start_says_so(llama: Path) -> None:
    llama.write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="server stopped"), http._running_llama({}):
        raise AssertionError
