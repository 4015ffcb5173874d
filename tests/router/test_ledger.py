"""`Ledger`: rows belong to requests, return when these end, and run out."""

from __future__ import annotations

import torch

from sottovoce_kernels.layout import NUM_STATE
from sottovoce_router.ledger import Ledger

CPU = torch.device("cpu")


def test_sizes() -> None:
    ledger = Ledger(3, 5, 50, CPU)
    tensors = ledger.tensors
    assert tensors.ids.shape == tensors.weights.shape == (3, 50)
    assert tensors.counts.shape == (3, 5)
    assert tensors.state.shape == (3, 5, NUM_STATE)
    assert tensors.weights.dtype == torch.float32
    assert {x.dtype for x in (tensors.ids, tensors.counts, tensors.state)} == {torch.int32}
    # Ids and weights, counts, states: 4 bytes each.
    assert ledger.num_bytes == 4 * (2 * 3 * 50 + 3 * 5 + 3 * 5 * NUM_STATE)


def test_a_request_keeps_its_row() -> None:
    ledger = Ledger(2, 1, 1, CPU)
    row = ledger.row_of("a")
    assert ledger.row_of("b") != row
    assert ledger.row_of("a") == row


def test_rows_are_distinct_and_in_range() -> None:
    ledger = Ledger(4, 1, 1, CPU)
    assert sorted(ledger.row_of(name) or 0 for name in "abcd") == [0, 1, 2, 3]


def test_a_released_row_is_reused() -> None:
    ledger = Ledger(1, 1, 1, CPU)
    row = ledger.row_of("a")
    ledger.release("a")
    assert "a" not in ledger
    assert ledger.row_of("b") == row


def test_an_exhausted_ledger_gives_none() -> None:
    ledger = Ledger(1, 1, 1, CPU)
    ledger.row_of("a")
    assert ledger.row_of("b") is None
    assert "b" not in ledger, "a refusal takes nothing"
    ledger.release("a")
    assert ledger.row_of("b") == 0


def test_releasing_twice_frees_once() -> None:
    ledger = Ledger(2, 1, 1, CPU)
    ledger.row_of("a")
    ledger.release("a")
    ledger.release("a")
    ledger.release("never seen")
    rows = [ledger.row_of(name) for name in ("b", "c", "d")]
    assert sorted(row for row in rows[:2] if row is not None) == [0, 1]
    assert rows[2] is None


def test_an_empty_ledger() -> None:
    assert Ledger(0, 1, 1, CPU).row_of("a") is None
