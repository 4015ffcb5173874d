"""The README's tables are those of the committed rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmarks import tables


def test_the_readme_shows_the_latest_rows() -> None:
    text = tables.README.read_text()
    assert tables.rendered(text) == text, "run `python -m benchmarks.tables`"
    assert set(re.findall(r"<!-- rows: (\S+) -->", text)) == set(tables.TABLES)


def test_a_newer_row_replaces_its_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    rows = [{"parameters": {"n": n}, "p50": value} for n, value in ((1, 0.1), (2, 0.2), (1, 0.3))]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tables.latest("x", "parameters") == [rows[1], rows[2]]
    assert tables.latest("missing", "parameters") == []


def test_a_marked_place_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", {"a": lambda: tables.table(["h"], [[1], [2]])})
    text = "x\n<!-- rows: a -->\nold\n<!-- end -->\ny"
    assert (
        tables.rendered(text)
        == "x\n<!-- rows: a -->\n| h |\n| --- |\n| 1 |\n| 2 |\n<!-- end -->\ny"
    )


def test_a_profile_shows_what_a_latent_step_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
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
