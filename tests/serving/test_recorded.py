"""What both tools left of their runs: read, scored and reported.

`recorded/NAME` is the folder of a run of `python -m benchmarks.serving`, less what is not read. The
endpoint was a script that streams six chunks of reasoning and then the right answer, but 999 to
leg_counting; it counts the six as soft in `latent`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from benchmarks import markdown, rows, tables
from benchmarks.quality.arms import SAMPLINGS, parse_arm
from benchmarks.quality.gym import gym_task
from benchmarks.quality.statistics import wilson
from benchmarks.serving import aiperf, vllm_bench
from benchmarks.serving.plots import ACCURACY, PANELS
from benchmarks.serving.profiles import PROFILES
from benchmarks.serving.report import COLUMNS, Report, cells
from benchmarks.serving.session import Run
from benchmarks.serving.summary import TIMES, Summary, summarize
from benchmarks.serving.workload import Asking, Request

RECORDED = Path(__file__).parent / "recorded"
FAMILIES, COUNT, MAX_TOKENS = ("gcd", "leg_counting"), 4, 96
(LOAD,) = PROFILES["closed"].loads([2])
PARAMETERS = {
    "model": "tiny-reasoner",
    "sampling": "greedy",
    "latency_target_s": 1000.0,
    "cores": 3,
}
MIXED, ALONE = (
    Run("closed", LOAD, tool, tuple(parse_arm(mode) for mode in modes))
    for tool, modes in (("aiperf", ("explicit", "latent")), ("vllm", ("explicit",)))
)


def asked(*modes: str, salt: str = "") -> list[Request]:
    """The requests of a recorded run, made again."""
    tasks = [gym_task(name, COUNT // len(FAMILIES), "test") for name in FAMILIES]
    asking = Asking("tiny-reasoner", SAMPLINGS["greedy"], MAX_TOKENS)
    return asking.requests(tasks, [parse_arm(mode) for mode in modes], COUNT, salt)


def aiperf_requests() -> list[Request]:
    first = json.loads((RECORDED / "aiperf" / "bodies.jsonl").read_text().splitlines()[0])
    return asked("explicit", "latent", salt=first["cache_salt"].rpartition("-")[0])


@pytest.fixture(scope="module")
def mixed() -> list[Summary]:
    """AIPerf's run, of two modes in one load."""
    answers, version = aiperf.read(RECORDED / "aiperf", aiperf_requests())
    assert version == "0.13.0"
    return summarize(MIXED, [answers], 1000.0)


@pytest.fixture(scope="module")
def alone() -> list[Summary]:
    """vllm bench serve's run, of one mode."""
    answers, _ = vllm_bench.read(RECORDED / "vllm", asked("explicit"))
    return summarize(ALONE, [answers], 1000.0)


def test_the_recorded_requests_are_those_that_a_run_makes_today() -> None:
    lines = (RECORDED / "aiperf" / "bodies.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [r.body for r in aiperf_requests()]


def test_aiperf_answers_are_matched_scored_and_timed() -> None:
    answers, _ = aiperf.read(RECORDED / "aiperf", aiperf_requests())
    for request, s in answers:
        assert s.error is None
        assert request.is_right(s) == (request.task.name == "gcd"), s.text
        assert s.ttft is not None
        assert s.first_answer is not None
        assert 0 < s.ttft < s.first_answer <= s.seconds
        assert s.tpot == pytest.approx((s.seconds - s.ttft) / (s.tokens - 1), rel=1e-3)
        assert (s.thinking, s.soft) == (6, 6 if request.mode == "latent" else 0)
        assert s.tokens == 6 + len(s.text)
        assert s.finish == "stop"


def test_percentiles_are_those_of_the_tools_own_summaries() -> None:
    """Both modes taken as one, for the tools know none."""
    requests = [Request("all", r.task, r.problem, r.body) for r in aiperf_requests()]
    (ours,) = summarize(MIXED, [aiperf.read(RECORDED / "aiperf", requests)[0]], 1000.0)
    theirs = json.loads((RECORDED / "aiperf" / "profile_export_aiperf.json").read_text())
    names = ("time_to_first_token", "time_to_first_output_token", "inter_token_latency",
             "request_latency")  # fmt: skip
    for name, mine in zip(names, TIMES, strict=True):
        for point, value in (ours.times[mine] or {}).items():
            assert 1000 * value == pytest.approx(theirs[name][point], rel=1e-3), (name, point)
    assert ours.throughput == pytest.approx(theirs["request_throughput"]["avg"], rel=0.02)
    answers, _ = vllm_bench.read(RECORDED / "vllm", asked("explicit"))
    (ours,) = summarize(ALONE, [answers], 1000.0)
    result = json.loads((RECORDED / "vllm" / "result.json").read_text())
    for name, mine in (("ttft", "ttft"), ("tpot", "tpot")):
        found = ours.times[mine] or {}
        assert 1000 * found["p50"] == pytest.approx(result[f"median_{name}_ms"], rel=1e-3)
        assert 1000 * found["p99"] == pytest.approx(result[f"p99_{name}_ms"], rel=1e-3)
    assert ours.throughput == pytest.approx(result["request_throughput"], rel=0.02)


def test_both_tools_find_the_same_right_answers(mixed: list[Summary], alone: list[Summary]) -> None:
    explicit, latent = mixed
    assert (explicit.mode, latent.mode) == ("explicit", "latent")
    assert explicit.right == latent.right == alone[0].right == 2
    assert alone[0].times["first_answer"] is None
    assert alone[0].cut is None
    assert explicit.accuracy == alone[0].accuracy == wilson(1 / 2, COUNT - 1)
    assert [(s.thinking, s.soft) for s in (*mixed, *alone)] == [(6, 0), (6, 6), (None, None)]


def test_a_request_that_failed_or_is_missing_counts_as_an_error(tmp_path: Path) -> None:
    for path in (RECORDED / "aiperf").iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    raw = tmp_path / "profile_export_raw.jsonl"
    first, _missing, *rest = raw.read_text().splitlines()
    broken = json.loads(first)
    broken |= {"responses": [], "error": {"code": 503, "type": "Busy", "message": "full"}}
    raw.write_text("\n".join([json.dumps(broken), *rest]) + "\n")
    answers, _ = aiperf.read(tmp_path, aiperf_requests())
    assert sorted(s.error for _, s in answers if s.error) == [
        "Busy: full", "the tool reported nothing"
    ]  # fmt: skip
    assert len(answers) == 2 * COUNT


def test_latents_of_the_usage_are_counted(tmp_path: Path) -> None:
    """The recorded endpoint had none."""
    for path in (RECORDED / "aiperf").iterdir():
        more = r"\"latent_steps\": 4, \"soft_steps\""
        (tmp_path / path.name).write_text(path.read_text().replace(r"\"soft_steps\"", more))
    answers, _ = aiperf.read(tmp_path, aiperf_requests())
    assert {s.thinking for s in summarize(MIXED, [answers], 1000.0)} == {6 + 4}


def test_the_page_stands_alone_and_reloads_until_the_last_run(
    mixed: list[Summary], alone: list[Summary], tmp_path: Path
) -> None:
    report = Report(PARAMETERS)
    report.add(MIXED, "0.13.0", mixed)
    report.save(tmp_path)
    assert 'http-equiv="refresh"' in (tmp_path / "report.html").read_text()
    report.add(ALONE, "0.32.0", alone)
    report.is_finished = True
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert 'http-equiv="refresh"' not in page
    assert re.findall(r'(?:src|href)="(.{14})', page) == ["data:image/png"]
    assert page.count("<tr><td>") == 3
    assert "<td>explicit, mixed<td>" in page
    assert "<td>latent, mixed<td>" in page
    saved = json.loads((tmp_path / "report.json").read_text())
    found = [s for run in (MIXED, ALONE) for s in saved["runs"][run.name]]
    assert [s["accuracy"] for s in found] == [asdict(s.accuracy) for s in (*mixed, *alone)]
    assert "<td>50.0 [12.5, 87.5]<td>6.0<td>0.0<td>-<td>" in page
    assert "share the 3 cores" in page


def test_a_line_shows_accuracy_with_its_interval_and_thinking(mixed: list[Summary]) -> None:
    shown = dict(zip(COLUMNS, cells(mixed[1]), strict=True))
    assert shown["right, % [95 %]"] == "50.0 [12.5, 87.5]"
    assert (shown["thinking steps"], shown["of them soft"]) == ("6.0", "6.0")


def test_every_panel_draws_the_median_too_where_it_is_a_time(mixed: list[Summary]) -> None:
    drawn = {title: [value(mixed[1]) for value in values] for title, values in PANELS.items()}
    latency = mixed[1].times["seconds"] or {}
    assert drawn["request latency, s: p95, p50 dashed"] == [latency["p95"], latency["p50"]]
    assert drawn["thinking steps of an answer"] == [6.0]
    assert drawn["answers per s"] == [mixed[1].throughput]
    assert drawn[ACCURACY] == [50.0]


def test_a_published_row_has_its_provenance_and_its_line_in_the_table(
    mixed: list[Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rows, markdown):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert tables.TABLES["serving"]() == "Not run yet."
    report = Report(PARAMETERS)
    report.add(MIXED, "0.13.0", mixed)
    report.publish(MIXED)
    report.publish(ALONE)  # which failed
    report.publish(MIXED)  # the later row is shown
    found = [json.loads(line) for line in (tmp_path / "serving.jsonl").read_text().splitlines()]
    row: dict[str, Any] = found[1]
    assert len(found) == 4
    assert row["parameters"] == {
        "model": "tiny-reasoner", "sampling": "greedy", "profile": "closed", "load": "2-in-flight",
        "level": 2.0, "tool": "aiperf", "mode": "latent", "is_mixed": True,
    }  # fmt: skip
    assert row["tool_version"] == "0.13.0"
    assert row["goodput"] == mixed[1].goodput > 0
    assert (row["n"], row["thinking"]) == (COUNT, 6)
    assert {"machine", "versions", "commit", "dirty", "time", "command"} <= set(row)
    _head, _rule, *lines = tables.TABLES["serving"]().split("\n\n")[0].splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("| closed | 2 | aiperf | `latent`, mixed | ")
    assert " | 50.0 [12.5, 87.5] | 6.0 | " in lines[1]
