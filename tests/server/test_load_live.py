"""The load test's command against a real server: a tool runs, its answers are scored, a page comes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.serving import aiperf, vllm_bench
from benchmarks.serving.__main__ import main

from server.serving import MODEL, Server
from sottovoce_server.models import MODELS

needs_aiperf = pytest.mark.skipif(
    not aiperf.BINARY.exists(), reason="`make bench-serving` has not installed AIPerf"
)


@pytest.mark.parametrize(
    ("tool", "modes"),
    [
        (vllm_bench.NAME, ["latent"]),
        pytest.param(aiperf.NAME, ["explicit", "routed@0.7"], marks=needs_aiperf),
    ],
)
def test_the_command_loads_scores_and_reports(
    reasoner: Server, tmp_path: Path, tool: str, modes: list[str]
) -> None:
    tokenizer = str(MODELS["tiny-reasoner"].path())
    where = ["--url", reasoner.base, "--model", MODEL, "--tokenizer", tokenizer]
    what = ["--task", "gym:leg_counting", "--requests", "4", "--max-tokens", "128"]
    how = ["--levels", "2", "--tool", tool, "--mix", "together" if len(modes) > 1 else "apart"]
    limit = ["--latency-target-s", "300", "--out", str(tmp_path / "out")]
    main([*where, *what, *how, *limit, "--mode", *modes])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = report["profiles"]["closed"]
    assert [s["mode"] for s in found] == modes
    assert all((s["requests"], s["errors"], s["first_error"]) == (4, 0, None) for s in found)
    assert all(s["right"] == s["right_in_time"] >= 3 for s in found), "it has learnt this family"
    assert all(s["goodput"] > 0 and s["times"]["ttft"]["p50"] > 0 for s in found)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
