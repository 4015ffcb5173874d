"""Arms of System-1.5's shortcuts: what they ask of the server, and what their samples come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.quality.__main__ import _arms
from benchmarks.quality.arms import SHORTCUT_ARMS, matched_arm, parse_arm
from benchmarks.quality.drive import Sample
from benchmarks.quality.outcome import Outcome
from benchmarks.quality.report import table

from sottovoce_router import parse
from sottovoce_router.shortcuts.manifest import Manifest

MANIFEST = Manifest(Path(), 6, 0.6, (2, 6), True, True, 3, 32, 8, 8, 1e-6)


@pytest.mark.parametrize(
    ("name", "steps", "depth"),
    [
        ("shortcuts", 6, 0.6),
        ("shortcuts@2", 2, 0.6),
        ("shortcuts@2+depth@off", 2, None),
        ("shortcuts@0", 0, 0.6),
        ("shortcuts@0+depth@0.3", 0, 0.3),
    ],
)
def test_an_arm_asks_for_shortcuts(name: str, steps: int, depth: float | None) -> None:
    found = parse(parse_arm(name).body, manifest=MANIFEST).shortcuts
    assert found is not None
    assert (found.steps, found.depth) == (steps, depth)


def test_all_of_them_are_arms_of_different_requests() -> None:
    found = [parse(parse_arm(name).body, manifest=MANIFEST).shortcuts for name in SHORTCUT_ARMS]
    assert None not in found
    # `shortcuts` is `shortcuts@6` for a model whose own number of steps is six.
    assert len(set(found)) == len(SHORTCUT_ARMS) - 1
    assert _arms(["explicit", "shortcuts:all"]) == ["explicit", *SHORTCUT_ARMS]


@pytest.mark.parametrize(
    "name", ["shortcuts@", "shortcuts@x", "shortcuts@2+depth@", "shortcuts@1.5"]
)
def test_another_arm_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not an arm"):
        _arms([name])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("random@routed@0.7", "routed@0.7"),
        ("random@0.5", None),
        ("random@0.5+cold@64", None),
        ("routed@0.7+cold@64", None),
        ("shortcuts@2+depth@0.5", None),
    ],
)
def test_only_random_takes_over_what_another_arm_had(name: str, other: str | None) -> None:
    assert matched_arm(name) == other
    assert _arms([name]) == [name]


def outcome(arm: str, **counts: Any) -> Outcome:
    sample = Sample("t", "1", 0, "", counts.pop("thinking"), 0, 0, 9, None, 1.0, 0.0, "stop")
    samples = [Sample(**{**vars(sample), **counts})]
    return Outcome(arm, "greedy", samples, {samples[0].key: True})


def test_latent_steps_are_thinking_and_skipped_layers_a_share() -> None:
    short = outcome("shortcuts", thinking=1, latent=6, layers_run=30, layers_skipped=10)
    old = outcome("explicit", thinking=40)
    assert (short.thinking, short.thinking_by_problem()) == (7, {("t", "1"): 7})
    assert (short.skipped_share, old.skipped_share) == (0.25, None)
    assert "| 7.0 | 0 % | 0.0 | 25 % |" in table([old, short], 10.0)
