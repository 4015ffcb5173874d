"""The accuracy harness against a real server: what it counts, resuming, the matched control."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.quality import reproduce
from benchmarks.quality.__main__ import main
from benchmarks.quality.drive import read_samples
from benchmarks.quality.report import write_report
from benchmarks.quality.study import Settings, Study
from benchmarks.quality.tune import main as tune

from server.serving import MODEL, Server
from sottovoce_server.defaults import read_defaults

COUNT = 3


def settings(server: Server) -> Settings:
    return Settings(
        url=f"{server.base}/v1", model=MODEL, tasks=("gym:chain_sum",), count=COUNT, split="test",
        max_tokens=24, concurrency=4,
    )  # fmt: skip


def run(study: Study, arm: str, num_samples: int = 1) -> None:
    asyncio.run(study.run(arm, "greedy", num_samples, "none"))


def test_a_study_counts_resumes_and_reports(server: Server, tmp_path: Path) -> None:
    study = Study(tmp_path / "s", settings(server))
    for arm in ("explicit", "routed@0.5"):
        run(study, arm, 2)
    run(study, "random@routed@0.5")
    explicit, routed = study.samples("explicit", "greedy"), study.samples("routed@0.5", "greedy")
    assert len(explicit) == len(routed) == 2 * COUNT
    assert all(s.error is None and s.tokens == 24 and s.seconds > 0 for s in explicit + routed)
    assert all(s.thinking == 24 and s.soft == 0 for s in explicit)
    steps = sum(s.thinking or 0 for s in routed)
    share = sum(s.soft or 0 for s in routed) / steps
    control = study.arm("random@routed@0.5", "greedy").body["routing"]
    assert control == {"policy": "random", "soft_share": round(share, 4)}

    path = tmp_path / "s" / "explicit--greedy.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # killed while it wrote
    kept = read_samples(path)
    run(study, "explicit", 2)
    again = study.samples("explicit", "greedy")
    assert again[: len(kept)] == kept
    assert {s.key for s in again} == {s.key for s in explicit}

    text = write_report(study, 10.0, publish=False)
    assert "| `random@routed@0.5` |" in text
    assert (tmp_path / "s" / "plot-greedy.png").stat().st_size > 1000


def test_every_request_gains_the_body(server: Server, tmp_path: Path) -> None:
    study = Study(tmp_path, replace(settings(server), body={"thinking_token_budget": 5}))
    run(study, "latent")
    samples = study.samples("latent", "greedy")
    assert [(s.thinking, s.tokens) for s in samples] == [(5, 24)] * COUNT
    with pytest.raises(ValueError, match="body"):
        Study(tmp_path, settings(server))


def test_a_failing_endpoint_is_counted_and_asked_again(server: Server, tmp_path: Path) -> None:
    study = Study(tmp_path, settings(server))
    path = tmp_path / "latent--greedy.jsonl"
    run(study, "latent")
    good = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(json.dumps({**good[0], "error": "APIError: gone"}) + "\n")
    assert study.outcome("latent", "greedy").num_errors == 1
    run(study, "latent")
    assert study.outcome("latent", "greedy").num_errors == 0
    assert len(study.samples("latent", "greedy")) == COUNT


def test_the_command_asks_and_prints(server: Server, tmp_path: Path, capsys: object) -> None:
    where = ["--url", f"{server.base}/v1", "--model", MODEL, "--out", str(tmp_path / "c")]
    small = ["--count", "1", "--max-tokens", "8", "--task", "gym:gcd"]
    main(["run", *where, *small, "--arm", "explicit"])
    main(["report", str(tmp_path / "c")])
    printed = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "explicit: " in printed
    assert "1 problems, 1 samples" in printed


def test_tune_writes_defaults_that_serve_reads(server: Server, tmp_path: Path) -> None:
    path, study = tmp_path / "sottovoce.json", str(tmp_path / "study")
    command = ["--url", f"{server.base}/v1", "--task", "gym:chain_sum", "--count", str(COUNT)]
    command += ["--max-tokens", "16", "--study", study, "--write", str(path)]
    tune([*command, "--threshold", "0.5", "0.9", "--cold-stop", "2", "0"])
    found = read_defaults(str(path))
    tuned = json.loads(path.read_text())["tuned"]
    assert [(c["threshold"], c["cold_stop"]["steps"]) for c in tuned["candidates"]] == [
        (0.5, 2), (0.5, 0), (0.9, 2), (0.9, 0)
    ]  # fmt: skip
    # Nobody is right, and who stops earliest is the shortest.
    shortest = min(tuned["candidates"], key=lambda c: c["thinking_steps"])
    assert found == {key: shortest[key] for key in ("threshold", "cold_stop")}
    assert tuned["problems"] == COUNT


def test_reproduce_serves_asks_and_reports(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    served: list[tuple[str, ...]] = []

    @contextmanager
    def running(*command: str, timeout_s: float) -> Iterator[str]:
        served.append(command)
        assert timeout_s > 3600, "a first start downloads the weights"
        yield server.base

    monkeypatch.setattr(reproduce, "running_server", running)
    monkeypatch.setitem(reproduce.MODELS, "toy", reproduce.Model(MODEL, ("--flag",)))
    toy = reproduce.Benchmark("aime:{data}/toy.jsonl", max_tokens=8, samples=2)
    monkeypatch.setitem(reproduce.BENCHMARKS, "toy", toy)
    command = ["toy", "toy", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"toy\.jsonl"):
        reproduce.main(command)
    assert served == [], "a missing file is found before a server starts"
    (tmp_path / "toy.jsonl").write_text('{"problem": "1 + 1?", "answer": 2}\n' * 2)
    reproduce.main([*command, "--arm", "explicit", "routed@0.5"])
    assert served == [(MODEL, "--flag", "--max-num-seqs", "64")]
    printed = capsys.readouterr().out
    assert "2 problems, 4 samples" in printed
    assert "| `routed@0.5` |" in printed
