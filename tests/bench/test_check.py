"""The rule of `make bench-check`, the committed bars, and what it says and ends with."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks import rows
from benchmarks.check import __main__ as check
from benchmarks.check.cases import CASES, Bench, Case
from benchmarks.check.rule import Bar, bar_of, judge, read_bars
from benchmarks.pairing import Pair, paired

LOWER, HIGHER = Bar("lower", 1.05, {}), Bar("higher", 0.95, {})


@pytest.mark.parametrize(
    ("bar", "values", "verdict"),
    [
        (LOWER, [1.06] * 5, "worse"),
        (LOWER, [1.05] * 5, "met"),
        (LOWER, [1.06] * 7 + [1.0], "worse"),  # 1 of 8: chance gives that in 3.5 %
        (LOWER, [1.06] * 6 + [1.0] * 2, "within noise"),  # 14 %
        (LOWER, [1.04] * 5 + [9.0] * 3, "met"),  # whatever the outliers
        (HIGHER, [0.94] * 5, "worse"),
        (HIGHER, [0.95] * 5, "met"),
        (HIGHER, [0.94] * 7 + [1.0], "worse"),
        (HIGHER, [0.94] * 6 + [1.0] * 2, "within noise"),
        (HIGHER, [0.96] * 5 + [0.1] * 3, "met"),
    ],
)
def test_the_rule(bar: Bar, values: list[float], verdict: str) -> None:
    random.Random(0).shuffle(values)
    assert judge(bar, values) == verdict


def test_too_few_pairs_tell_nothing() -> None:
    with pytest.raises(ValueError, match="4 pairs"):
        judge(LOWER, [2.0] * 4)
    with pytest.raises(ValueError, match="4 pairs"):
        bar_of("lower", [2.0] * 4, {})


@pytest.mark.parametrize("num_pairs", [5, 8, 20])
def test_false_alarms_are_rare_and_real_losses_are_seen(num_pairs: int) -> None:
    rng = random.Random(num_pairs)

    def share_failed(median: float) -> float:
        draws = (
            [rng.lognormvariate(0, 0.03) * median for _ in range(num_pairs)] for _ in range(2000)
        )
        return sum(judge(LOWER, values) == "worse" for values in draws) / 2000

    assert share_failed(1.05) <= 0.06  # 0.05, and the noise of this test
    assert share_failed(1.05 * 1.15) > 0.99


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_measured_bar_is_the_best_that_its_sample_keeps(better: str) -> None:
    values = [0.9, 0.96, 0.97, 1.0, 1.01, 1.02, 1.03, 1.2]
    bar = bar_of(better, values, {})  # type: ignore[arg-type]
    assert bar.bar == (0.96 if better == "higher" else 1.03)
    assert judge(bar, values) == "met"
    worse = [v * (0.8 if better == "higher" else 1.25) for v in values]
    assert judge(bar, worse) == "worse"


def test_every_case_has_a_bar_that_says_where_it_comes_from() -> None:
    bars = read_bars()
    assert bars.keys() == CASES.keys()
    assert all(bar.provenance for bar in bars.values())


def test_pairs_take_turns_in_alternating_order() -> None:
    asked: list[str] = []

    def side(name: str, seconds: float) -> float:
        asked.append(name)
        return seconds

    pairs = paired(lambda: side("a", 3.0), lambda: side("b", 2.0), 3, rest_s=0.0)
    assert pairs == [(3.0, 2.0)] * 3
    assert "".join(asked) == "ab" + "ab" + "ba" + "ab"
    assert any(x == y for x, y in pairwise(asked))


@pytest.mark.parametrize(("ratio", "fails"), [(1.2, True), (1.0, False)])
def test_it_ends_with_1_if_a_ratio_is_worse(
    ratio: float, fails: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(self: Bench, case: Case, rounds: int) -> list[Pair]:
        return [(ratio, 1.0)] * rounds

    monkeypatch.setattr(Bench, "measure", measure)
    monkeypatch.setattr(check, "smollm2_path", lambda: Path("m"))
    arguments = ["--case", "step, latent over explicit", "--rounds", "5"]
    if fails:
        with pytest.raises(SystemExit, match="step, latent over explicit"):
            check.main(arguments)
    else:
        check.main(arguments)
    assert ("at most 1.050: " + ("worse" if fails else "met")) in capsys.readouterr().out


@pytest.mark.parametrize("publishes", [True, False])
def test_rows_are_published_when_asked_for(
    publishes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    monkeypatch.setattr(Bench, "measure", lambda self, case, rounds: [(1.01, 1.0)] * rounds)
    monkeypatch.setattr(check, "smollm2_path", lambda: Path("m"))
    check.main(["--case", "step, latent over explicit", *["--publish"] * publishes])
    found = [json.loads(line) for p in tmp_path.iterdir() for line in p.read_text().splitlines()]
    seen = [(r["name"], r["metric"], r["p50"], r["n"], r["bar"], r["verdict"]) for r in found]
    assert seen == [("check", "step, latent over explicit", 1.01, 8, 1.05, "met")] * publishes


def test_set_makes_what_is_measured_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.check import rule

    path = tmp_path / "bars.json"
    path.write_text(rule.BARS.read_text())
    monkeypatch.setattr(Bench, "measure", lambda self, case, rounds: [(1.01, 1.0)] * rounds)
    monkeypatch.setattr(check, "smollm2_path", lambda: Path("m"))
    monkeypatch.setattr(check, "read_bars", lambda: read_bars(path))
    monkeypatch.setattr(check, "write_bars", lambda bars: rule.write_bars(bars, path))
    check.main(["--case", "step, latent over explicit", "--set"])
    found = json.loads(path.read_text())
    assert found["step, latent over explicit"]["bar"] == 1.01
    assert {"machine", "commit", "time", "p50"} <= set(
        found["step, latent over explicit"]["provenance"]
    )
    assert (
        found["step, routed over explicit"]
        == json.loads(rule.BARS.read_text())["step, routed over explicit"]
    )
