"""Tasks from local files in the formats their publishers use."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .code import passes_asserts, passes_tests
from .mathematics import is_equal
from .task import Problem, Task, TaskError

Row = Mapping[str, Any]
_BOXED = "\n\nReason step by step and put the final answer in \\boxed{}."
_LETTERS = "ABCD"


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl, .json or .csv file, also compressed with gzip."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            kind = path.name.removesuffix(".gz").rpartition(".")[2]
            if kind == "csv":
                return list(csv.DictReader(file))
            if kind == "json":
                return list(json.load(file))
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TaskError(f"{path}: {error}; give a .jsonl, .json or .csv file") from error


def _field(row: Row, *names: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise TaskError(f"a row has none of the fields {', '.join(names)}, only {', '.join(row)}")


def _id(row: Row, number: int) -> str:
    for name in ("id", "ID", "unique_id", "task_id", "Record ID"):
        if row.get(name) not in (None, ""):
            return str(row[name])
    return str(number)


def _math_problem(row: Row, number: int) -> Problem:
    """`question` or `problem`, and `answer` (plain JSONL, MATH-500, AIME)."""
    question = _field(row, "question", "Question", "problem", "Problem")
    return Problem(_id(row, number), question + _BOXED, str(_field(row, "answer", "Answer")))


def _gsm8k_problem(row: Row, number: int) -> Problem:
    """`question`, and `answer` whose last line is `#### number`."""
    _, found, answer = _field(row, "answer").rpartition("####")
    if not found:
        raise TaskError(f"row {number}: the answer has no '####' line, as GSM8K's have")
    reference = answer.strip().replace(",", "")
    return Problem(_id(row, number), _field(row, "question") + _BOXED, reference)


def _gpqa_problem(row: Row, number: int) -> Problem:
    """`Question`, `Correct Answer`, `Incorrect Answer 1` to `3`; the order is drawn by the row."""
    wrong = [_field(row, f"Incorrect Answer {i}").strip() for i in (1, 2, 3)]
    right = _field(row, "Correct Answer").strip()
    choices = [right, *wrong]
    random.Random(_id(row, number)).shuffle(choices)
    lines = [f"{letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=True)]
    prompt = "\n".join([_field(row, "Question"), "", *lines]) + (
        "\n\nReason step by step and put the letter of the right choice in \\boxed{}."
    )
    return Problem(_id(row, number), prompt, _LETTERS[choices.index(right)])


def _humaneval_problem(row: Row, number: int) -> Problem:
    """`prompt`, `test`, `entry_point`."""
    prompt = (
        "Complete this function. Answer with the whole function in one Python code block.\n\n"
        f"```python\n{_field(row, 'prompt')}\n```"
    )
    reference = {name: _field(row, name) for name in ("prompt", "test", "entry_point")}
    return Problem(_id(row, number), prompt, reference)


def _mbpp_problem(row: Row, number: int) -> Problem:
    """`prompt` or `text`, `test_list`, and what the tests need (`test_imports`, `test_setup_code`)."""
    tests = list(_field(row, "test_list"))
    prompt = (
        f"{_field(row, 'prompt', 'text')}\n\nAnswer with one Python code block. It must pass:\n\n"
        "```python\n" + "\n".join(tests) + "\n```"
    )
    needs = [*row.get("test_imports", ()), row.get("test_setup_code", "")]
    return Problem(_id(row, number), prompt, "\n".join([*needs, *tests]))


def chosen_letter(text: str) -> str | None:
    """The letter in the last \\boxed{}, or else the last one that stands alone."""
    import re

    boxed = re.findall(r"\\boxed\{\s*(?:\\text\{)?\(?([A-D])\b", text)
    alone = re.findall(r"(?<![A-Za-z'])([A-D])(?![A-Za-z'])", text)
    return (boxed or alone or [None])[-1]


FORMATS: dict[str, tuple[Callable[[Row, int], Problem], Callable[[Problem, str], bool]]] = {
    "jsonl": (_math_problem, lambda p, text: is_equal(p.reference, text)),
    "gsm8k": (_gsm8k_problem, lambda p, text: is_equal(p.reference, text)),
    "math500": (_math_problem, lambda p, text: is_equal(p.reference, text)),
    "aime": (_math_problem, lambda p, text: is_equal(p.reference, text)),
    "gpqa": (_gpqa_problem, lambda p, text: chosen_letter(text) == p.reference),
    "mbpp": (_mbpp_problem, lambda p, text: passes_asserts(p.reference, text)),
    "humaneval": (_humaneval_problem, lambda p, text: passes_tests(p.reference, text)),
}


def file_task(kind: str, path: Path, count: int | None) -> Task:
    """The first `count` problems of a file (all of them for None)."""
    read, is_correct = FORMATS[kind]
    problems = list(_problems(read_rows(path), read))[:count]
    if not problems:
        raise TaskError(f"{path} has no rows; give a file with at least one problem")
    if len({problem.id for problem in problems}) < len(problems):
        raise TaskError(f"{path}: two rows have the same id; ids tell samples apart")
    return Task(f"{kind}:{path.stem}", problems, is_correct)


def _problems(rows: list[Row], read: Callable[[Row, int], Problem]) -> Iterator[Problem]:
    for number, row in enumerate(rows):
        yield read(row, number)
