"""The examples and the README's own Python run, over real connections."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.http_stub import http_stub
from sottovoce_client.chat import main as chat
from sottovoce_client.explain import main as explain

CLIENTS = Path(__file__).parents[2] / "clients"
EXAMPLES = CLIENTS / "examples"
SAID = {
    "with_langchain.py": ["'soft_steps': 1", "Näh, 42.\n"],
    "with_openai.py": ["'policy': 'thinkrouter'", "soft 'Hm' 0.5", "Hm éNäh, 42.\n", "switches=1"],
    "with_sottovoce.py": ["latent 2 steps, 1 soft: Näh, 42.", "discrete ' é' 0.5", "switches=1"],
}
BLOCKS = re.findall(r"```python\n(.*?)```", (CLIENTS / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def stub() -> Iterator[tuple[str, list[Any]]]:
    with http_stub() as address_and_bodies:
        yield address_and_bodies


def test_every_example_is_run() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.suffix == ".py") == sorted(SAID)


@pytest.mark.parametrize("name", SAID)
def test_example(
    name: str, stub: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, bodies = stub
    runpy.run_path(str(EXAMPLES / name))["main"](url, "Hi")
    said = capsys.readouterr().out
    assert [words for words in SAID[name] if words not in said] == []
    assert bodies[-1]["reasoning_mode"] == "routed"
    assert {body["messages"][-1]["content"] for body in bodies} == {"Hi"}


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_readme(code: str, stub: tuple[str, list[Any]]) -> None:
    assert "http://localhost:8000" in code
    exec(compile(code.replace("http://localhost:8000", stub[0]), "README.md", "exec"), {})
    assert stub[1]


def test_explain_a_prompt(stub: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]) -> None:
    url, bodies = stub
    explain(["Hi", "--url", url, "--mode", "routed", "--set", "threshold=0.8"], {})
    said = capsys.readouterr().out
    assert '"Hm" 0.75  "?" 0.25' in said
    assert said.rstrip().endswith("Näh, 42.")
    (body,) = bodies
    assert (body["routing"], body["include_reasoning_trace"]) == ({"threshold": 0.8}, True)


def test_a_chat(
    stub: tuple[str, list[Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, bodies = stub
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n/quit\nnever read\n"))
    chat(["--url", url, "--mode", "latent", "--system", "Be brief."], {"VLLM_API_KEY": "k"})
    said = capsys.readouterr().out
    assert "tiny (modes: explicit, latent, routed); /help" in said
    assert "Näh, 42.\n2 reasoning steps, 50% soft" in said
    (body,) = bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
