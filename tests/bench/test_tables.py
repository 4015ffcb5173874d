"""The README's tables are those of the committed rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks import markdown, tables
from benchmarks.peers import plot
from benchmarks.quality.table import quality


def test_the_readme_shows_the_latest_rows() -> None:
    text = tables.README.read_text()
    assert tables.rendered(text) == text, "run `python -m benchmarks.tables`"
    assert set(re.findall(r"<!-- rows: (\S+) -->", text)) == set(tables.TABLES)


def test_a_newer_row_replaces_its_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    rows = [{"parameters": {"n": n}, "p50": value} for n, value in ((1, 0.1), (2, 0.2), (1, 0.3))]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert markdown.latest("x", "parameters") == [rows[1], rows[2]]
    assert markdown.latest("missing", "parameters") == []


def test_a_marked_place_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", {"a": lambda: markdown.table(["h"], [[1], [2]])})
    text = "x\n<!-- rows: a -->\nold\n<!-- end -->\ny"
    assert (
        tables.rendered(text)
        == "x\n<!-- rows: a -->\n| h |\n| --- |\n| 1 |\n| 2 |\n<!-- end -->\ny"
    )


def test_a_profile_shows_what_a_latent_step_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    rows = [
        {"parameters": {"instrument": "torch", "mode": mode}, "machine": {"cpu": "c"},
         "step_ms": ms, "shares": shares}
        for mode, ms, shares in (
            ("explicit", 40.0, {"matmul": 1.0}), ("latent", 50.0, {"matmul": 0.9, "mix": 0.1})
        )
    ]  # fmt: skip
    (tmp_path / "profile.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    *_, matmul, mix = tables.TABLES["profile"]().splitlines()
    assert matmul == "| torch | c | matmul | 40.00 | 45.00 | +5.00 |"
    assert mix == "| torch | c | mix | 0.00 | 5.00 | +5.00 |"


def publish(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    """Rows as they are committed, the machine and the spread left to us."""
    common = {"machine": {"cpu": "c"}, "p20": 0.9, "p80": 1.1, "n": 5}
    text = "".join(json.dumps({**common, **row}) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    for name in ("peers", "sweep", "check"):
        assert tables.TABLES[name]() == "Not run yet."
    return tmp_path


def test_a_load_of_a_peer_is_a_line(folder: Path) -> None:
    about = {"peer": "v1", "load": "equal lengths", "steps": 64}
    publish(
        folder, "peers",
        {"metric": "throughput over it", "parameters": about, "p50": 0.5},
        {"metric": "throughput over it", "parameters": about, "p50": 1.5},
        {"metric": "latency p50 over its", "parameters": about, "p50": 0.7},
        {"metric": "latency p95 over its", "parameters": about, "p50": 0.8},
        {"metric": "peak memory", "parameters": about, "p50": 1234.4, "its": 99.6},
        {"metric": "throughput over it", "parameters": {**about, "load": "spread"}, "p50": 2.5},
    )  # fmt: skip
    assert tables.TABLES["peers"]().splitlines()[2:] == [
        "| v1 | equal lengths, 64 | c | 1.500 [0.900, 1.100] | 0.700 | 0.800 | 1,234 / 100 |",
        "| v1 | spread, 64 | c | 2.500 [0.900, 1.100] |  |  |  |",
    ]


def point(value: int, seconds: tuple[float, float], steps: int = 64) -> dict[str, Any]:
    about = {"axis": "batch", "value": value, "steps": steps, "dtype": "float32"}
    return {
        "metric": "step, latent over explicit", "parameters": about, "p50": 1.0,
        "median_seconds": seconds,
    }  # fmt: skip


def test_a_curve_is_the_latest_of_its_kind_with_its_powers(folder: Path) -> None:
    power = {"axis": "batch", "of": "ratio", "values": [1, 8]}
    publish(
        folder, "sweep", point(1, (1.0, 1.0), steps=4), point(8, (0.02, 0.01)),
        point(1, (0.004, 0.0025)),
        {"metric": "power of the axis", "parameters": power, "p50": 0.25},
    )  # fmt: skip
    assert tables.TABLES["sweep"]().splitlines()[2:] == [
        "| batch | 1 | c | 4.00 | 2.50 | 1.000 [0.900, 1.100] |",
        "| batch | 8 | c | 20.00 | 10.00 | 1.000 [0.900, 1.100] |",
        "",
        "Powers of the axis that they grow with: `batch`: ratio 0.250.",
    ]


def test_the_curves_are_drawn_with_their_powers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[str]] = {}
    original = plot.panel

    def panel(axes: Any, axis: str, points: Any) -> None:
        original(axes, axis, points)
        drawn[axis] = [text.get_text() for text in axes.get_legend().get_texts()]
        assert axes.get_xscale() == axes.get_yscale() == "log"

    monkeypatch.setattr(plot, "panel", panel)
    with pytest.raises(RuntimeError, match="make bench-peers"):
        plot.plot(folder / "sweep.png")
    publish(folder, "sweep", point(1, (0.001, 0.004)), point(16, (0.016, 0.016)))
    plot.plot(folder / "sweep.png")
    assert drawn == {"batch": ["latent, power 1.00", "explicit, power 0.50"]}
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_case_of_the_check_is_a_line(folder: Path) -> None:
    case = {"metric": "step, x", "p50": 1.2, "bar": 1.05, "better": "lower", "verdict": "worse"}
    publish(folder, "check", case)
    assert tables.TABLES["check"]().splitlines()[2:] == [
        "| step, x | c | 1.200 [0.900, 1.100] | at most 1.05 | worse | 5 |"
    ]


def test_a_study_is_shown_with_the_arms_published_together(folder: Path) -> None:
    def row(arm: str, commit: str, value: float, **more: Any) -> dict[str, Any]:
        estimate = {"value": value, "low": value - 0.1, "high": value + 0.1}
        return {
            "parameters": {"model": "m", "sampling": "greedy", "arm": arm}, "commit": commit,
            **estimate, "by_task": {"t": estimate}, "thinking_steps": 9.0, "soft_share": 0.5,
            "switches": 1.0, "difference": {}, **more,
        }  # fmt: skip

    change = {"value": -0.1, "low": -0.2, "high": 0.0}
    against = {"accuracy": change, "steps": change, "mcnemar_p": 0.04}
    publish(
        folder, "quality", row("explicit", "a", 0.5), row("swi", "a", 0.4, difference=against),
        row("explicit", "b", 0.6), row("moi", "b", 0.7, difference=against),
    )  # fmt: skip
    shown = quality("m", "greedy", "swi")().splitlines()
    assert shown[2] == "| `explicit` | 50.0 [40.0, 60.0] | 9.0 | 50 % | 1.0 |  |  |  |"
    assert shown[3].endswith("| -10.0 [-20.0, +0.0] | -0.1 [-0.2, +0.0] | 0.04 |")
    assert shown[-1] == "| `swi` | 40.0 |"
    assert quality("m", "greedy", "selar")() == "Not run yet."


def test_a_step_that_misses_its_bar_is_in_bold(folder: Path) -> None:
    """At most 1.05 of a step, at least 0.95 of a throughput; a line for each model and dtype."""
    machine = {"cpu": "c", "cores": 2}
    common = {"machine": machine, "metric": "step time, latent over explicit"}
    about = {"concurrent": 1, "dtype": "float32", "steps": 8}
    publish(
        folder, "step", {**common, "parameters": about, "p50": 1.05},
        {**common, "parameters": {**about, "concurrent": 8}, "p50": 1.06},
        {**common, "parameters": {**about, "shape": "llama-3.1-8b"}, "p50": 0.9},
    )  # fmt: skip
    fast = {"sampling": "greedy", **about}
    publish(
        folder, "explicit_vs_v1",
        {"machine": machine, "metric": "throughput", "parameters": fast, "p50": 0.94},
    )  # fmt: skip
    small, large, throughput = tables.TABLES["steps"]().splitlines()[2:]
    assert "| SmolLM2-135M | float32 | c, 2 cores | 1.050 [0.900, 1.100] | **1.060** [" in small
    assert "| llama-3.1-8b | float32 | c, 2 cores | 0.900 [" in large
    assert "V1 runner, greedy | SmolLM2-135M | float32 | c, 2 cores | **0.940** [" in throughput
