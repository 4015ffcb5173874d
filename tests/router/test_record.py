"""The routing record: rows as `decide` writes them, through vLLM's logprobs and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import run
from sottovoce_router import Step
from sottovoce_router.record import decode, rows, width

# Each is a function of record_inside_vllm.py, which runs on vLLM's own classes.
CHECKS = [
    "check_record_beside_logprobs",
    "check_record_alone",
    "check_record_keeps_device_boundaries",
    "check_rows_without_a_record_pass_through",
    "check_a_hidden_request_sees_no_logprobs",
    "check_logprobs_are_what_they_were",
    "check_records_cross_to_another_process",
    "check_a_benchmark_sends_what_it_says",
    "check_arrays_cross_as_they_did",
    "check_an_unrouted_request_beside_routed_ones",
    "check_steps_of_different_widths",
    "check_texts_beside_rows_without",
]


def start_ahead(_folder: Path) -> Callable[[], list[Any]]:
    """Run them all."""
    return lambda: run("router/record_inside_vllm.py")


@pytest.mark.parametrize("check", CHECKS)
def test_inside_vllm(made_ahead: list[Any], check: str) -> None:
    error = dict(made_ahead)[check]
    assert error is None, error


@pytest.mark.parametrize(
    ("code", "route"), [(0, None), (1, "soft"), (2, "discrete"), (3, "forced")]
)
def test_decode_names_the_route(code: int, route: str | None) -> None:
    assert decode(5, [[code, 0, -3], [0.25, 0.5, 0.0]]) == Step(5, route, 0.25, 0.5)


@pytest.mark.parametrize("takes_slot", [False, True])
@pytest.mark.parametrize(
    ("code", "cause"),
    [(0, None), (1, "budget"), (2, "cold_stop"), (3, "switch_budget"), (4, "min_answer")],
)
def test_decode_tells_what_forced_and_who_came(
    code: int, cause: str | None, takes_slot: bool
) -> None:
    step = decode(5, [[3, code + 8 * takes_slot, -3], [0.25, 0.5, 0.0]])
    assert (step.cause, step.takes_slot) == (cause, takes_slot)


@pytest.mark.parametrize("count", [0, 1, 10, 32])
def test_decode_reads_as_many_alternatives_as_the_row_says(count: int) -> None:
    room = 32
    ids = [1 + 8 * count, 0, *range(100, 100 + room), -width(room)]
    values = [0.9, 0.1, *(1 / (i + 1) for i in range(room)), 0.0]
    want = tuple((100 + i, 1 / (i + 1)) for i in range(count))
    assert decode(7, [ids, values]).alternatives == want


def test_a_request_without_a_trace_sees_no_alternatives() -> None:
    """Its row has them where another request of the batch asked for a trace."""
    raw = [[1 + 8 * 2, 0, 100, 101, -width(2)], [0.9, 0.1, 0.75, 0.25, 0.0]]
    assert decode(7, raw, is_traced=False) == Step(7, "soft", 0.9, 0.1)


def test_no_rows_hold_no_records() -> None:
    class Lists:
        logprob_token_ids: Any = np.zeros((0, 4), dtype=np.int64)
        logprobs: Any = np.zeros((0, 4), dtype=np.float32)

    lists: Any = Lists()
    assert rows(lists) == []


def test_width_counts_the_fixed_columns() -> None:
    assert (width(0), width(10)) == (3, 13)
