"""The terminal chat: what it prints, what it sends, what it remembers."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from rich.console import Console

from clients.scripted import CHUNKS, Script, SyncFace, chunk, refusal, sse, step, stream_of
from sottovoce_client import Client, Retries
from sottovoce_client.chat import Conversation, Terminal, converse, main
from sottovoce_client.settings import Settings


def talk(
    script: Script, *lines: str | type[BaseException], width: int = 80, color: bool = False
) -> tuple[str, Conversation]:
    """A conversation of these lines; returns what was printed."""
    out, left = io.StringIO(), iter(lines)

    def read() -> str:
        line = next(left, EOFError)
        if isinstance(line, str):
            return line
        raise line

    ticks = itertools.count(step=0.5)
    console = Console(file=out, width=width, force_terminal=color, highlight=False)
    conversation = Conversation(Settings("routed"))
    client: Client = SyncFace(script, retries=Retries(max_retries=0)).client
    converse(client, conversation, Terminal(console, read, lambda: next(ticks)))
    return out.getvalue(), conversation


def test_thoughts_answer_and_counters() -> None:
    said, _ = talk(Script([stream_of(sse(CHUNKS))]), "Hi")
    thoughts, gap, answer, counters = said.splitlines()
    assert (thoughts, gap, answer) == ("Hm é", "", "Näh, 42.")
    assert counters.startswith("2 reasoning steps, 50% soft, ")
    assert counters.endswith(" s")


def test_soft_steps_are_dim_and_italic() -> None:
    said, _ = talk(Script([stream_of(sse(CHUNKS))]), "Hi", color=True)
    assert "\x1b[2;3mHm\x1b[0m\x1b[36m é\x1b[0m" in said
    assert "reasoning steps" in said


def screens(raw: str) -> Iterator[list[str]]:
    """What a terminal shows after each piece of its input."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", raw):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\x1b[2K":
            rows[row] = ""
        elif piece.startswith("\x1b"):
            row -= int(piece[2:-1]) if piece.endswith("A") else 0
        else:
            rows[row] = rows[row][:column].ljust(column) + piece
            column += len(piece)
        yield [text for text in rows if text]


def test_the_live_lines_leave_nothing_behind() -> None:
    said, _ = talk(Script([stream_of(sse(CHUNKS))]), "Hi", color=True)
    shown = list(screens(said))
    *lines, counters = shown[-1]
    assert lines == ["Hm é", "Näh, 42."]
    assert counters.startswith("2 reasoning steps")
    assert max(rows.count("Hm é") for rows in shown) == 1
    assert max(len(rows) for rows in shown) == 3


def test_the_thoughts_are_not_remembered() -> None:
    script = Script([stream_of(sse(CHUNKS)), stream_of(sse(CHUNKS))])
    _, conversation = talk(script, "Hi", "And?", "/quit", "never sent")
    first, second = script.bodies
    assert first["messages"] == [{"role": "user", "content": "Hi"}]
    assert second["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Näh, 42."},
        {"role": "user", "content": "And?"},
    ]
    assert len(conversation.history) == 4
    assert (first["reasoning_mode"], first["include_reasoning_trace"]) == ("routed", True)


def test_commands() -> None:
    script = Script([stream_of(sse(CHUNKS))])
    said, _ = talk(script, "/mode latent", "/set threshold 0.8", "/set stop a b", "/show",
                   "/set reasoning_effort low", "Hi")  # fmt: skip
    (body,) = script.bodies
    assert body["reasoning_effort"] == "low"
    assert (body["reasoning_mode"], body["routing"]) == ("latent", {"threshold": 0.8})
    assert body["stop"] == "a b"
    assert 'mode latent, threshold 0.8, stop "a b"' in said


def test_reset_forgets_and_help_lists() -> None:
    script = Script([stream_of(sse(CHUNKS)), stream_of(sse(CHUNKS))])
    said, _ = talk(script, "Hi", "/reset", "/help", "And?")
    assert [len(body["messages"]) for body in script.bodies] == [1, 1]
    assert "/quit" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/mode loud", "'loud'"),
        ("/set loudness 3", "'loudness' cannot be set"),
        ("/mode", "is no command"),
        ("/set", "is no command"),
        ("/sing", "'/sing' is no command"),
    ],
)
def test_mistakes_are_explained(line: str, words: str) -> None:
    script = Script([stream_of(sse(CHUNKS))])
    said, conversation = talk(script, line)
    assert words in said
    assert (script.requests, conversation.settings) == ([], Settings("routed"))


def test_an_error_does_not_end_the_conversation() -> None:
    script = Script([refusal(400, "invalid_value"), stream_of(sse(CHUNKS))])
    said, conversation = talk(script, "Hi", "", "And?")
    assert "no: 400" in said
    assert "Näh, 42." in said
    assert script.bodies[1]["messages"] == [{"role": "user", "content": "And?"}]
    assert len(conversation.history) == 2


def test_what_came_before_an_error_stays() -> None:
    said, conversation = talk(Script([stream_of(sse(CHUNKS[:4], ""))]), "Hi")
    assert said.index("Hm é") < said.index("Näh,") < said.index("ended before")
    assert conversation.history == []


def test_ctrl_c_ends_the_answer_only() -> None:
    class Interrupted(httpx.SyncByteStream):
        is_closed = False

        def __iter__(self) -> Any:
            yield sse(CHUNKS[:2], "")
            raise KeyboardInterrupt

        def close(self) -> None:
            self.is_closed = True

    stream = Interrupted()
    script = Script([httpx.Response(200, stream=stream), stream_of(sse(CHUNKS))])
    said, conversation = talk(script, "Hi", "And?", KeyboardInterrupt, "never read")
    assert stream.is_closed
    assert "stopped" in said
    assert len(script.requests) == 2
    assert conversation.history[0]["content"] == "And?"


def test_long_lines_wrap_and_nothing_is_lost() -> None:
    words = [f"word{number}" for number in range(40)]
    thoughts = [chunk({"reasoning": f" {word}"}, step(f" {word}")) for word in words]
    said, _ = talk(Script([stream_of(sse([*thoughts, *CHUNKS[3:]]))]), "Hi", width=30)
    lines = said.splitlines()
    assert max(map(len, lines)) <= 30
    assert said.split()[:40] == words
    assert "40 reasoning steps" in said


def test_without_a_trace_the_usage_counts() -> None:
    untraced = [chunk({"reasoning": "Hm"}), *CHUNKS[3:]]
    said, _ = talk(Script([stream_of(sse(untraced))]), "Hi")
    assert said.startswith("Hm\n\nNäh, 42.\n2 reasoning steps, 50% soft")


def test_an_answer_without_thoughts() -> None:
    said, _ = talk(Script([stream_of(sse([chunk({"content": "\n\n"}), *CHUNKS[3:]]))]), "Hi")
    assert said.startswith("Näh, 42.\n")


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"sottovoce chat: GET http://127.0.0.1:9/v1/models: "):
        main(["--url", "http://127.0.0.1:9"], {})


# The command itself, in a process of its own: this one may have imported anything.
_COMMAND = """
import json, sys
sys.argv = ["sottovoce", *sys.argv[1:]]
from sottovoce_server.__main__ import main
try:
    main()
except SystemExit as exit:
    print(exit.code)
print(json.dumps([m for m in ("torch", "vllm", "sottovoce_router") if m in sys.modules]))
"""


@pytest.mark.parametrize("command", ["chat", "explain"])
def test_the_command_starts_without_the_engine(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, command, "--help"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    *said, imported = done.stdout.splitlines()
    assert said[0].startswith(f"usage: sottovoce {command}"), done.stderr
    assert json.loads(imported) == []
