"""The arithmetic of `benchmarks.shortcuts`, on answers and rows made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.engine import Answer
from benchmarks.pairing import alternated
from benchmarks.quality.statistics import Estimate
from benchmarks.shortcuts import Reading, compare, read_answer, table

from sottovoce_training.families import FAMILIES
from sottovoce_training.reasoner.export import MODELS
from sottovoce_training.reasoner.tokenizer import END, load_tokenizer

PROBLEM = next(FAMILIES["gcd"].problems("test", 0, 1))
LAYERS = 6


def answer(text: str, num_skipped: int = 0) -> tuple[Answer, Any]:
    tokenizer = load_tokenizer(MODELS / "tiny-reasoner")
    return Answer(tokenizer(text, add_special_tokens=False).input_ids, num_skipped), tokenizer


@pytest.mark.parametrize(
    ("text", "is_right", "num_thinking"),
    [
        (f"<|pad|><|pad|></think>\n{PROBLEM.answer}{END}", True, 3),
        (f"<|pad|></think>\nnone{END}", False, 2),
        (f"<|pad|>{PROBLEM.answer}", False, None),
    ],
)
def test_an_answer_is_scored_and_its_steps_counted(
    text: str, is_right: bool, num_thinking: int | None
) -> None:
    found, tokenizer = answer(text, num_skipped=4)
    reading = read_answer(PROBLEM, found, tokenizer, LAYERS)
    length = len(found.token_ids)
    assert reading == Reading(is_right, num_thinking or length, LAYERS * (length - 1), 4)


def test_comparing() -> None:
    base = [Reading(True, 40, 600, 0), Reading(True, 60, 600, 0), Reading(False, 20, 300, 0)] * 40
    short = [Reading(True, 3, 60, 30), Reading(False, 3, 60, 0), Reading(False, 6, 120, 60)] * 40
    found = compare(short, base)
    saved, lost = found["thinking steps saved"], found["accuracy difference"]
    assert isinstance(saved, Estimate)
    assert isinstance(lost, Estimate)
    assert saved.value == pytest.approx(1 - 4 / 40)
    assert saved.low < saved.value < saved.high
    assert lost.value == pytest.approx(-1 / 3)
    assert lost.low < lost.value < lost.high < 0
    assert found["layers skipped"] == pytest.approx(90 / 240)
    assert (found["accuracy"], found["accuracy of explicit"]) == pytest.approx((1 / 3, 2 / 3))
    assert found["McNemar p"] == pytest.approx(2 / 2**40)


def test_both_sides_come_first_as_often() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> Any:
        return lambda: (order.append(name), seconds)[1]

    pairs = alternated(
        [run("a", 1.0 + i) for i in range(4)], [run("b", 10.0 + i) for i in range(4)]
    )
    assert pairs == [(1.0, 10.0), (2.0, 11.0), (3.0, 12.0), (4.0, 13.0)]
    assert order == ["a", "b", *"ab", *"ba", *"ab", *"ba"]


def row(metric: str, unit: str, **values: Any) -> dict[str, Any]:
    parameters = {"model": "m", "arm": "shortcuts", "against": "explicit"}
    return {"metric": metric, "unit": unit, "parameters": parameters, "n": 8, **values}


def test_the_table_shows_the_latest_row_of_each() -> None:
    ratio = row("answer latency", "ratio", p20=0.1, p50=0.2, p80=0.3)
    ratio["parameters"] = {**ratio["parameters"], "concurrent": 1}
    rows = [
        row("thinking steps saved", "share", value=0.5, low=0.4, high=0.6),
        row("McNemar p", "share", value=0.25),
        ratio,
        row("thinking steps saved", "share", value=0.9, low=0.8, high=1.0),
    ]
    assert table(rows).splitlines()[2:] == [
        "| McNemar p | m | `shortcuts` | `explicit` |  | 0.250 | 8 |",
        "| answer latency | m | `shortcuts` | `explicit` | 1 | 0.200 [0.100, 0.300] | 8 |",
        "| thinking steps saved | m | `shortcuts` | `explicit` |  | 90.0 % [80.0 %, 100.0 %] | 8 |",
    ]
