"""Runs side by side: what their logs say, what they leave out, and what was measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce_training.families import FAMILIES
from sottovoce_training.shortcuts import ablations
from sottovoce_training.shortcuts.ablations import Point, main, read_run
from sottovoce_training.shortcuts.generate import Mode
from sottovoce_training.shortcuts.train import VALIDATION_PER_FAMILY, stages

PNG = b"\x89PNG"
NUM_LOGGED = VALIDATION_PER_FAMILY * len(FAMILIES)
ALL, DEEP, WORDS = "6 latent steps", "6 latent steps, depth 0.6", "in words"


def write_stage(run: Path, settings: Any, *evaluations: dict[str, tuple[float, float]]) -> None:
    """A stage's settings as training writes them, and a log with losses between evaluations."""
    from dataclasses import asdict

    folder = run / settings.stage
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    entries: list[dict[str, Any]] = []
    for number, modes in enumerate(evaluations, 1):
        entries.append({"step": 500 * number, "loss": 1.0, "answer_nll": 1.0})
        parts = {"modes": 0, "skipped": 1}
        found = {key: {n: v[i] for n, v in modes.items()} for key, i in parts.items()}
        entries.append({"step": 500 * number, "accuracy": {"all": 0.5}, **found})
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))


@pytest.fixture
def both(tmp_path: Path) -> list[Path]:
    """A whole run, and one of all parameters at once without the depth shortcut."""
    latent, shortcut = stages([], 900, 250)
    write_stage(tmp_path / "whole", latent, {ALL: (0.1, 0.0)}, {ALL: (0.8, 0.0), WORDS: (0.9, 0.0)})
    write_stage(tmp_path / "whole", shortcut, {DEEP: (0.75, 0.4), ALL: (0.8, 0.0)})
    (joint,) = stages(["stages", "depth"], 900, 250)
    write_stage(tmp_path / "joint", joint, {ALL: (0.5, 0.0)})
    return [tmp_path / "whole", tmp_path / "joint"]


def test_the_last_evaluation_of_every_stage_counts(both: list[Path]) -> None:
    whole, joint = map(read_run, both)
    assert (whole.left_out, joint.left_out) == ((), ("depth", "stages"))
    assert whole.points == {
        Mode(6, None): Point(0.8, 0.0, NUM_LOGGED),
        Mode(0, None): Point(0.9, 0.0, NUM_LOGGED),
        Mode(6, 0.6): Point(0.75, 0.4, NUM_LOGGED),
    }


@pytest.mark.parametrize("part", ["depth", "step", "stages", "decoder"])
def test_what_is_left_out_is_read_from_the_settings(part: str, tmp_path: Path) -> None:
    write_stage(tmp_path / "run", stages([part], 9, 9)[0], {ALL: (0.1, 0.0)})
    assert read_run(tmp_path / "run").left_out == (part,)


def test_one_table_and_one_plot(both: list[Path], tmp_path: Path) -> None:
    main([*map(str, both), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "ablations.md").read_text().splitlines() == [
        "| thinking | whole | joint: without depth, stages |",
        "|---|---|---|",
        "| in words | 90.0% |  |",
        "| 6 latent steps | 80.0% | 50.0% |",
        "| 6 latent steps, depth 0.6 | 75.0% (40% skipped) |  |",
        "",
        f"Problems: {NUM_LOGGED}, greedy.",
    ]
    assert (tmp_path / "out" / "ablations.png").read_bytes().startswith(PNG)


def test_what_was_measured_comes_before_the_log(both: list[Path]) -> None:
    row = {"steps": 2, "depth": 0.3, "accuracy": 0.25, "skipped": 0.9, "problems": 16}
    (both[0] / ablations.MEASURED).write_text(json.dumps([row]))
    assert read_run(both[0]).points == {Mode(2, 0.3): Point(0.25, 0.9, 16)}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no stage with a log\.jsonl"):
        read_run(tmp_path)
