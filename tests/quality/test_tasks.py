"""Every format of problems, with a right, a wrong and an empty answer; what cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.quality.arms import parse_arm
from benchmarks.quality.gym import final_answer
from benchmarks.quality.task import TaskError
from benchmarks.quality.tasks import load_task

from sottovoce_router import POLICIES, parse
from sottovoce_training.families import FAMILIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "quality.jsonl"
POLICIES_TABLE = ROOT / "router" / "README.md"

ADD = {
    "task_id": "T/0", "entry_point": "add", "prompt": "def add(a, b):\n    '''Sum.'''\n",
    "test": "def check(f):\n    assert f(2, 3) == 5\n",
}  # fmt: skip
MBPP = {
    "task_id": 3, "prompt": "Half of a circle.", "test_imports": ["import math"],
    "test_list": ["assert area(1) == math.pi", "assert area(2) == 2 * math.pi"],
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("jsonl", {"question": "q", "answer": "1/2"}, "So \\boxed{0.5}", "\\boxed{2}"),
    ("gsm8k", {"question": "q", "answer": "a\n#### 1,200"}, "It is 1200.", "It is 1201."),
    ("math500", {"problem": "q", "answer": "\\frac{3}{4}", "unique_id": "u"},
     "\\boxed{\\frac{6}{8}}", "\\boxed{\\frac{4}{3}}"),
    ("aime", {"ID": "2024-1", "Problem": "q", "Answer": 73}, "\\boxed{073}", "\\boxed{37}"),
    ("mbpp", MBPP, "```python\ndef area(r):\n    return math.pi * r\n```",
     "```python\ndef area(r):\n    return 3 * r\n```"),
    ("humaneval", ADD, "```python\ndef add(a, b):\n    return a + b\n```", "    return a - b\n"),
    ("humaneval", ADD, "    return a + b\n", "```python\nwhile True: pass\n```"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "right", "wrong"), CASES)
def test_a_format_tells_right_from_wrong(
    kind: str, row: dict[str, Any], right: str, wrong: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("benchmarks.quality.code.SECONDS", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    task = load_task(f"{kind}:{path}", 5)
    (problem,) = task.problems
    assert task.is_correct(problem, right)
    assert not task.is_correct(problem, wrong)
    assert not task.is_correct(problem, "")


def test_gpqa_shuffles_by_the_row_and_reads_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "gpqa.csv"
    head = (
        "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3"
    )
    path.write_text("\n".join([head, *(f"r{i},Which?,yes,no,maybe,never" for i in range(20))]))
    task = load_task(f"gpqa:{path}", 20)
    letters = [p.reference for p in task.problems]
    assert letters == [p.reference for p in load_task(f"gpqa:{path}", 20).problems]
    assert set(letters) == set("ABCD")
    for problem in task.problems:
        assert f"{problem.reference}) yes" in problem.prompt
        assert task.is_correct(problem, f"A or B? \\boxed{{{problem.reference}}}")
        assert not task.is_correct(problem, "")


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_family_scores_its_own_answer(name: str) -> None:
    task = load_task(f"gym:{name}", 4)
    solved = list(FAMILIES[name].problems("test", 0, 4))
    for problem, known in zip(task.problems, solved, strict=True):
        assert problem.prompt == known.question
        assert task.is_correct(problem, known.answer)
        assert not task.is_correct(problem, "")


def test_any_data_set_of_reasoning_gym_is_a_task() -> None:
    task = load_task('gym:chain_sum:{"min_terms": 2, "max_terms": 2}', 3)
    for problem in task.problems:
        answer = problem.reference["answer"]
        assert task.is_correct(problem, f"I add them.\nAnswer: {answer}")
        assert not task.is_correct(problem, f"I add them.\nAnswer: {answer}1")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gym:nothing", "gym:nothing is not one of"),
        ("gym:nothing:{}", "gym:nothing with {}"),
        ("gym:chain_sum:{", "not JSON"),
        ("jsonl:/no/such/file", "/no/such/file"),
        ("tsv:x", "FORMAT one of jsonl"),
    ],
)
def test_a_bad_task_says_what_to_give(spec: str, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        load_task(spec, 2)


@pytest.mark.parametrize("text", ['{"question": "q"}', '{"question": "q", "answer": "5"}\n' * 0])
def test_a_row_without_its_fields_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(TaskError):
        load_task(f"gsm8k:{path}", 2)


@pytest.mark.parametrize("name", ["loud", "routed", "routed@x", "explicit@1"])
def test_an_unknown_arm_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not an arm"):
        parse_arm(name)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I add.\nAnswer: 12", "12"),
        ("Answer: 7\nNo.\n**Answer: -0.5**", "-0.5"),
        ("The answer is 12.\n\nThe answer is", "12"),
        ("The ANSWER is: `a b`.", "a b"),
        ("I add.\n12.", "12"),
        ("Answer:", "Answer:"),
        ("", ""),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("stochastic", "stochastic"), ("moi", "moi"), ("selar", "selar"), ("swi", "swi"),
        ("swi_full", "swi"), ("latent", "soft"), ("routed@0.6", "thinkrouter"),
        ("random@0.5", "random"), ("adaptive_greedy@0.6", "adaptive_greedy"),
    ],
)  # fmt: skip
def test_an_arm_is_a_policy_of_the_server(name: str, policy: str) -> None:
    params = parse(parse_arm(name).body)
    assert params.policy == policy
    assert params.mixes_all == (name == "swi_full")
    if name == policy:
        plain = {"reasoning_mode": params.mode, "routing": {"policy": policy}}
        assert params == parse(plain), "its own defaults"


def test_what_the_policies_table_calls_measured_is_in_the_results() -> None:
    """Figures of rows that exist, of the policy that has them."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    told = {
        (
            r["parameters"]["arm"],
            f"{r['value']:.1%}".replace("%", " %"),
            f"{r['thinking_steps']:.1f}",
        )
        for r in rows
        if r["parameters"]["model"] == "tiny-reasoner"
    }
    cells = [line.strip("| ").split(" | ") for line in POLICIES_TABLE.read_text().splitlines()]
    found = {
        cell[0].strip("`"): re.fullmatch(r"`(.+)`: (.+), (.+) steps", cell[-1])
        for cell in cells
        if len(cell) == 6 and cell[0].startswith("`")
    }
    assert found.keys() == {name for name in POLICIES if name != "observe"}
    for policy, figures in found.items():
        if figures is not None:
            assert figures.groups() in told, policy
            arm = figures[1].replace("random@routed@0.7", "random@0.5")
            assert parse(parse_arm(arm).body).policy == policy
    assert sum(figures is not None for figures in found.values()) >= 4
