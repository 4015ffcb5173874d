"""A session of runs of which one fails, with a tool and a server that are stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks import rows
from benchmarks.quality.drive import Sample
from benchmarks.serving import __main__ as command_line
from benchmarks.serving.session import TOOLS, Session
from benchmarks.serving.workload import Answered, Request, Timed, answered


class Tool:
    """Answers at once and wrong, but dies of `latent` in the second round."""

    NAME = "vllm"

    def __init__(self) -> None:
        self.modes: list[str] = []

    def command(self, *args: Any) -> list[str]:
        requests: Sequence[Request] = args[3]
        self.modes.append(requests[0].mode)
        is_dead = requests[0].mode == "latent" and self.modes.count("latent") == 2
        return [sys.executable, "-c", f"import sys; print('out of luck'); sys.exit({is_dead:d})"]

    def read(self, out: Path, requests: Sequence[Request]) -> tuple[list[Answered], str]:
        blank = vars(Sample("", "", 0, "?", 5, 0, 0, 9, 0.1, 1.0, 0.0, "stop"))
        return answered(requests, {i: Timed(**blank) for i in range(len(requests))}), "1.0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session of two modes in two rounds, done."""
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    monkeypatch.setitem(TOOLS, "vllm", Tool())
    monkeypatch.setattr(Session, "warm_up", lambda *_: None)
    with pytest.raises(SystemExit, match="of 4 runs failed closed--1-in-flight--latent--vllm--rou"):
        command_line.main([
            "--url", "http://nowhere", "--tool", "vllm", "--mode", "latent", "explicit", "--levels",
            "1", "--requests", "2", "--rounds", "2", "--publish", "--out", str(tmp_path / "out"),
            "--task", "gym:gcd",
        ])  # fmt: skip
    return tmp_path


def test_a_failed_run_is_reported_and_the_others_follow(folder: Path) -> None:
    report = json.loads((folder / "out" / "report.json").read_text())
    ((name, said),) = report["failures"].items()
    assert name == "closed--1-in-flight--latent--vllm--round-2"
    assert "out of luck" in said
    assert "out of luck" in (folder / "out" / "report.html").read_text()
    assert report["is_finished"]
    found = {s["mode"]: s["requests"] for run in report["runs"].values() for s in run}
    assert found == {"latent": 2, "explicit": 4}, "a round of one, two of the other"


def test_what_was_measured_is_published(folder: Path) -> None:
    found = [json.loads(line) for line in (folder / "serving.jsonl").read_text().splitlines()]
    assert [(row["parameters"]["mode"], row["n"]) for row in found] == [
        ("explicit", 4), ("latent", 2)
    ]  # fmt: skip


def test_a_row_is_there_before_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption takes nothing away that was measured."""
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    monkeypatch.setattr(Session, "warm_up", lambda *_: None)

    class Interrupted(Tool):
        def command(self, *args: Any) -> list[str]:
            if self.modes:
                raise KeyboardInterrupt
            return super().command(*args)

    monkeypatch.setitem(TOOLS, "vllm", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        command_line.main([
            "--url", "http://nowhere", "--tool", "vllm", "--mode", "explicit", "latent", "--levels",
            "1", "--requests", "2", "--publish", "--out", str(tmp_path / "out"), "--task", "gym:gcd",
        ])  # fmt: skip
    (line,) = (tmp_path / "serving.jsonl").read_text().splitlines()
    assert json.loads(line)["parameters"]["mode"] == "explicit"
