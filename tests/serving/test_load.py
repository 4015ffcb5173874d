"""Load tests: the requests of a run, the tools' command lines, and rates by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.quality.arms import SAMPLINGS, parse_arm
from benchmarks.quality.statistics import wilson
from benchmarks.quality.task import Problem, Task
from benchmarks.serving import aiperf, vllm_bench
from benchmarks.serving.__main__ import main, parser, plan
from benchmarks.serving.profiles import PROFILES, Load
from benchmarks.serving.session import Run, runs
from benchmarks.serving.summary import percentiles, summarize
from benchmarks.serving.workload import Asking, Request, Timed
from benchmarks.tables import README

ASKING = Asking("m", SAMPLINGS["greedy"], 64)
ARMS = [parse_arm("explicit"), parse_arm("routed@0.7")]


def task(name: str) -> Task:
    problems = [Problem(f"{name}-{i}", f"{name} {i}?", str(i)) for i in range(3)]
    return Task(name, problems, lambda problem, text: text == problem.reference)


TASKS = [task("a"), task("b")]


def load(profile: str, level: float) -> Load:
    (found,) = PROFILES[profile].loads([level])
    return found


def run_of(mode: str) -> Run:
    return Run("closed", load("closed", 1), "t", (parse_arm(mode),))


def timed(text: str, started: float, seconds: float, error: str | None = None) -> Timed:
    return Timed(
        "", "", 0, text, 5, 0, 0, 10, 0.5, seconds, started, "stop", error, ttft=0.1, tpot=0.02
    )


def test_every_mode_gets_the_same_problems_and_a_cache_of_its_own() -> None:
    asked = ASKING.requests(TASKS, ARMS, 4, "run")
    for arm in ARMS:
        problems = {r.problem.id for r in asked if r.mode == arm.name}
        assert problems == {"a-0", "b-0", "a-1", "b-1"}
    assert {(r.mode, r.body["cache_salt"]) for r in asked} == {
        ("explicit", "run-0"), ("routed@0.7", "run-1")
    }  # fmt: skip
    assert [r.mode for r in asked] != sorted(r.mode for r in asked), "modes take turns"
    assert asked == ASKING.requests(TASKS, ARMS, 4, "run")


@pytest.mark.parametrize(
    ("profile", "level", "theirs", "vllms"),
    [
        ("closed", 4, "--concurrency 4", "--max-concurrency 4"),
        ("poisson", 0.5, "--request-rate 0.5 --arrival-pattern poisson",
         "--request-rate 0.5 --burstiness 1.0"),
        ("bursts", 2, "--request-rate 2 --arrival-pattern gamma --arrival-smoothness 0.1",
         "--request-rate 2 --burstiness 0.1"),
        ("ramp", 4, "--request-rate 4 --arrival-pattern constant --request-rate-ramp-duration 2.0",
         "--ramp-up-strategy linear --ramp-up-start-rps 1 --ramp-up-end-rps 4"),
    ],
)  # fmt: skip
def test_a_load_in_both_tools_words(
    tmp_path: Path, profile: str, level: float, theirs: str, vllms: str
) -> None:
    asked = ASKING.requests(TASKS, ARMS[:1], 4, "run")
    for tool, words in ((aiperf, theirs), (vllm_bench, vllms)):
        command = tool.command("http://h", Path("/t"), load(profile, level), asked, tmp_path)
        assert f" {words} " in " ".join(command)


def test_aiperf_sends_the_bodies_and_vllm_the_prompts(tmp_path: Path) -> None:
    asked = ASKING.requests(TASKS, ARMS[1:], 4, "run")
    aiperf.command("http://h", Path("/t"), load("closed", 1), asked, tmp_path)
    lines = (tmp_path / "bodies.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [r.body for r in asked]
    command = vllm_bench.command("http://h", Path("/t"), load("closed", 1), asked, tmp_path)
    found = json.loads((tmp_path / "prompts.json").read_text())
    assert [entry["conversations"][0]["value"] for entry in found] == [r.prompt for r in asked]
    extra = json.loads(command[command.index("--extra-body") + 1])
    assert {**asked[0].body, **extra} == asked[0].body
    assert extra["routing"] == {"policy": "thinkrouter", "threshold": 0.7}


def test_vllm_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    mixed, plain = (ASKING.requests(TASKS, arms, 4, "run") for arms in (ARMS, ARMS[:1]))
    with pytest.raises(ValueError, match="one mode at a time"):
        vllm_bench.command("http://h", Path("/t"), load("closed", 1), mixed, tmp_path)
    with pytest.raises(ValueError, match="whole rates"):
        vllm_bench.command("http://h", Path("/t"), load("ramp", 2.5), plain, tmp_path)
    found = [(r.tool, len(r.arms)) for r in runs("closed", [load("closed", 1)],
             ["aiperf", "vllm"], ARMS, "both")]  # fmt: skip
    assert found == [("aiperf", 1), ("aiperf", 1), ("aiperf", 2), ("vllm", 1), ("vllm", 1)]


def test_goodput_counts_right_answers_in_time_over_the_whole_run() -> None:
    explicit, routed = (
        [Request(arm.name, TASKS[0], p, {}) for p in TASKS[0].problems] for arm in ARMS
    )
    answers = [
        (explicit[0], timed("0", 100.0, 1.0)),
        (explicit[1], timed("1", 101.0, 3.0)),  # right, but late
        (explicit[2], timed("wrong", 102.0, 1.0)),
        (routed[0], timed("0", 101.0, 1.5)),
        (routed[1], timed("1", 106.0, 2.0)),  # on the target, and the last
        (routed[2], timed("2", 200.0, 0.1, error="503")),
    ]
    run = Run("closed", load("closed", 2), "t", tuple(ARMS))
    one, two = summarize(run, [answers], 2.0)
    assert (one.mode, one.right, one.right_in_time, one.errors) == ("explicit", 2, 1, 0)
    assert (two.mode, two.right, two.right_in_time, two.errors) == ("routed@0.7", 2, 2, 1)
    assert one.goodput == pytest.approx(1 / 8)
    assert two.goodput == pytest.approx(2 / 8)
    assert two.throughput == pytest.approx(2 / 8)
    assert two.tokens_per_s == pytest.approx(20 / 8)
    assert two.first_error == "503"
    assert one.is_mixed
    assert one.times["seconds"] == percentiles([1.0, 3.0, 1.0])
    assert percentiles([float(i) for i in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_a_run_without_answers_has_no_rates() -> None:
    request = Request("explicit", TASKS[0], TASKS[0].problems[0], {})
    (found,) = summarize(run_of("explicit"), [[(request, request.failed("gone"))]], 1.0)
    assert (found.errors, found.goodput, found.times["ttft"]) == (1, 0.0, None)
    assert (found.thinking, found.soft, found.accuracy.value) == (None, None, 0.0)
    late = replace(request.failed("gone"), error=None, text="0")
    assert request.is_right(late)
    assert not request.is_right(request.failed("gone"))


def test_thinking_counts_tokens_and_latents() -> None:
    asked = [Request("shortcuts", TASKS[0], p, {}) for p in TASKS[0].problems]
    answers = [
        (asked[0], replace(timed("0", 0.0, 1.0), thinking=1, soft=0, latent=6)),
        (asked[1], replace(timed("1", 0.0, 1.0), thinking=9, soft=4, latent=0)),
        (asked[2], replace(timed("2", 0.0, 1.0, error="503"), thinking=99, soft=99)),
    ]
    (found,) = summarize(run_of("shortcuts"), [answers], 1.0)
    assert (found.thinking, found.soft, found.latent) == (8.0, 2.0, 3.0)
    assert found.accuracy == wilson(2 / 3, 3 - 1), "what failed is wrong"


def test_rounds_are_one_long_run_of_the_same_problems() -> None:
    asked = [Request("explicit", TASKS[0], p, {}) for p in TASKS[0].problems]
    first = [(asked[0], timed("0", 0.0, 1.0)), (asked[1], timed("no", 1.0, 1.0))]
    later = [(asked[0], timed("0", 900.0, 1.0)), (asked[1], timed("no", 901.0, 5.0))]
    (found,) = summarize(run_of("explicit"), [first, later], 2.0)
    assert (found.requests, found.right) == (4, 2)
    assert found.throughput == pytest.approx(4 / (2 + 6)), "the pause between them is no part"
    assert found.accuracy == wilson(1 / 2, 2 - 1), (
        "a second sample of a problem is no second problem"
    )


def test_no_mode_is_always_first() -> None:
    plan = list(runs("closed", [load("closed", n) for n in (1, 2)], ["vllm"], ARMS, "apart", 2))
    order = [(run.round, run.load.level, run.arms[0].name) for run in plan]
    e, r = (arm.name for arm in ARMS)
    assert order == [
        (1, 1, e), (1, 1, r), (1, 2, r), (1, 2, e), (2, 1, r), (2, 1, e), (2, 2, e), (2, 2, r)
    ]  # fmt: skip
    assert len({run.folder for run in plan}) == 8
    assert len({run.name for run in plan}) == 4


def test_the_modes_asked_for_by_default_hold_the_one_that_saves_steps() -> None:
    arms = {arm.name: arm for arm in map(parse_arm, parser().parse_args([]).mode)}
    assert list(arms) == ["explicit", "latent", "routed@0.7", "shortcuts"]
    (request, *_) = ASKING.requests(TASKS, [arms["shortcuts"]], 1, "run")
    assert request.body["shortcuts"] == {}


def test_the_readme_names_the_default_levels() -> None:
    lines = README.read_text().splitlines()
    for name, profile in PROFILES.items():
        (line,) = [text for text in lines if text.startswith(f"| `{name}` | ")]
        levels = re.findall(r"\d+", line.split("|")[3])
        assert levels == [f"{level:g}" for level in profile.levels]


def test_all_is_every_profile() -> None:
    words = ["--profile", "all", "--tool", "vllm", "--mix", "apart", "--mode", "explicit"]
    found = plan(parser().parse_args(words))
    assert {run.profile for run in found} == set(PROFILES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tool", "vllm", "--requests", "3"], "--requests must be as many"),
        (["--tool", "vllm", "--profile", "closed", "ramp", "--levels", "1"], "single --profile"),
        (["--tool", "vllm", "--mode", "loud"], "'loud' is not an arm"),
        (["--tool", "vllm", "--model", "other/model"], "--tokenizer"),
    ],
)
def test_bad_arguments_are_met_before_a_server_starts(words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        main(words)
