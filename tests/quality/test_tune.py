"""`sottovoce tune`: what it chooses, and what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.quality.arms import parse_arm
from benchmarks.quality.drive import Sample
from benchmarks.quality.outcome import Outcome
from benchmarks.quality.tune import Candidate, choose, table


def candidate(arm: str, right: int, steps: int) -> Candidate:
    """Ten problems, the first `right` of them answered."""
    samples = [
        Sample("t", str(i), 0, "", steps, 0, 0, steps, None, 1.0, 0.0, "stop") for i in range(10)
    ]
    is_right = {s.key: i < right for i, s in enumerate(samples)}
    return Candidate(parse_arm(arm).body["routing"], Outcome(arm, "t0.6", samples, is_right))


def test_accuracy_comes_before_length() -> None:
    short, long = candidate("routed@0.4", 7, 20), candidate("routed@0.9", 8, 90)
    assert choose([short, long]) is long
    tied = candidate("routed@0.6", 8, 60)
    assert choose([short, long, tied]) is tied
    assert choose([tied, candidate("routed@0.7", 8, 60)]) is tied
    # Wilson's interval of 9 trials: the variance between ten problems, unbiased, leaves as many.
    assert "| `routed@0.6` | 80.0% [47.4%, 94.7%] | 60.0 |" in table([tied])


def test_an_arm_with_cold_stop() -> None:
    routing = parse_arm("routed@0.7+cold@64").body["routing"]
    assert routing == {"policy": "thinkrouter", "threshold": 0.7, "cold_stop": {"steps": 64}}
    with pytest.raises(ValueError, match="not an arm"):
        parse_arm("routed@0.7+cold@x")


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "sottovoce"), "tune", "--task", "gym:gcd"]
    done = subprocess.run(
        [*command, "--url", "http://localhost:1/v1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sottovoce tune: --url http://localhost:1/v1" in done.stderr
    assert "start `sottovoce serve MODEL` first" in done.stderr
