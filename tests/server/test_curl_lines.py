"""Every curl line of the documents, by curl, against the tiny reasoner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from server.serving import MODEL, Server

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "clients/README.md")
_CURL = re.compile(r"^curl .*?'(?=\n```|\n$)", re.DOTALL | re.MULTILINE)
LINES = [line for name in DOCUMENTS for line in _CURL.findall((ROOT / name).read_text())]


def test_there_are_lines() -> None:
    shown = sum((ROOT / name).read_text().count("\ncurl ") for name in DOCUMENTS)
    assert len(LINES) == shown == 3


def events_of(text: str) -> list[Any]:
    """The answer, or what its stream says."""
    if not text.startswith("data: "):
        return [json.loads(text)]
    *lines, last = [line[6:] for line in text.splitlines() if line]
    assert last == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_answers(reasoner: Server, line: str) -> None:
    shell = line.replace("http://localhost:8000", reasoner.base)
    shell = shell.replace('"tiny-reasoner"', f'"{MODEL}"')  # which is that one's name here
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "VLLM_API_KEY": "none"},
    )  # fmt: skip
    events = events_of(done.stdout)
    asked = re.search(r'"reasoning_mode": "(\w+)"', line)
    assert asked is not None
    assert events[-1]["routing"]["mode"] == asked[1]
    choices = [choice for event in events for choice in event["choices"]]
    texts = [(c.get("message") or c.get("delta") or {}).get("content") or "" for c in choices]
    assert "".join(texts).strip()
    steps = [step for c in choices for step in (c.get("routing") or {}).get("trace", [])]
    assert bool(steps) == ("include_reasoning_trace" in line)
