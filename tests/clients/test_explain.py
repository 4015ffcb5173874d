"""The table of a request's thinking, from saved answers of every endpoint and from a prompt."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clients.http_stub import http_stub
from clients.scripted import ROUTING, TRACE, WHOLE, step
from sottovoce_client import TraceStep
from sottovoce_client.explain import main, trace_table

SAVED: dict[str, Any] = {
    "chat": WHOLE,
    "completions": {"choices": [{"text": "x", "routing": {"trace": TRACE}}], "routing": ROUTING},
    "responses": {"output": [], "routing": {**ROUTING, "trace": TRACE}},
}


def table(*steps: dict[str, Any], **options: Any) -> list[str]:
    out = io.StringIO()
    trace = [TraceStep.model_validate(step) for step in steps]
    Console(file=out, width=200).print(trace_table(trace, **options))
    return out.getvalue().splitlines()


def test_columns() -> None:
    header, first, second = table(*TRACE)
    assert header.split() == ["step", "route", "token", "p_max", "entropy", "alternatives"]
    assert first.split() == ["1", "soft", '"Hm"', "0.500", "1.000", '"Hm"', "0.75", '"?"', "0.25"]
    assert second.split()[:4] == ["2", "discrete", '"', 'é"']


def test_alternatives_by_weight_up_to_a_number() -> None:
    weights = {"a": 0.1, "b": 0.6, "c": 0.2, "d": 0.1}
    listed = [{"token_id": 1, "token": t, "weight": w} for t, w in weights.items()]
    assert (
        table(step("a", alternatives=listed), num_alternatives=2)[1]
        .rstrip()
        .endswith('"b" 0.60  "c" 0.20  and 2 more')
    )
    assert "more" not in table(step("a", alternatives=listed), num_alternatives=4)[1]


@pytest.mark.parametrize("token", ["[bold]", "[/red]", "\\", ":smile:"])
def test_tokens_are_no_markup(token: str) -> None:
    only_token, only_alternatives = step(token, alternatives=[]), step(token) | {"token": "x"}
    for line in table(only_token, only_alternatives)[1:]:
        assert json.dumps(token) in line


def test_a_latent_step_is_read_by_its_alternatives() -> None:
    read = step("Hm")["alternatives"]
    line = table(step("<pad>", "latent", alternatives=read))[1]
    assert line.split()[:3] == ["1", "latent", "(vector)"]
    assert "<pad>" not in line
    assert '"Hm" 0.75  "?" 0.25' in line


def test_a_latent_step_in_words() -> None:
    read = step("<pad>", "latent", step="[b] 3 + 4 = 7\n\x1bso 8\n")
    header, first, second = table(read, step("Hm"))
    assert header.rstrip().endswith("in words")
    assert first.rstrip().endswith("1.00         [b] 3 + 4 = 7; \ufffdso 8")
    assert second.rstrip().endswith('"?" 0.25')
    assert "in words" in table(step("<pad>", "latent", step=""))[0]


def test_white_space_and_control_characters_can_be_seen() -> None:
    assert '"\\n\\u001b"' in table(step("\n\x1b"))[1]
    assert '"\ufffd"' in table(step("\x9b"))[1]


@pytest.mark.parametrize("endpoint", SAVED)
def test_saved_answers(endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(SAVED[endpoint]))
    main(["--file", str(path)], {})
    said = capsys.readouterr().out
    assert "Hm" in said
    assert "2 steps: 1 soft, 1 discrete (mode routed, policy thinkrouter" in said


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(WHOLE)))
    main(["--file", "-"], {})
    assert "2 steps" in capsys.readouterr().out


def test_every_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({**SAVED["chat"], "choices": SAVED["chat"]["choices"] * 3}))
    main(["--file", str(path)], {})
    assert capsys.readouterr().out.count("2 steps:") == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no TracedResponse"),
        ("[]", "no TracedResponse"),
        ('{"choices": [{"message": {"content": "x"}}]}', "include_reasoning_trace"),
        (None, "No such file"),
    ],
)
def test_nothing_to_explain(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match=words):
        main(["--file", str(path)], {})


def test_a_prompt_is_asked_with_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--mode", "routed", "--set", "threshold=0.8", "--set", "reasoning_effort=low"]
    with http_stub() as (url, bodies):
        main(["Hi", "--url", url, *flags], {})
    (body,) = bodies
    assert (body["reasoning_effort"], body["reasoning_mode"]) == ("low", "routed")
    assert body["routing"] == {"threshold": 0.8}
    assert "2 steps: 1 soft, 1 discrete" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["Hi", "--file", "x"]])
def test_a_prompt_or_a_file(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv, {})
    assert caught.value.code == 2
