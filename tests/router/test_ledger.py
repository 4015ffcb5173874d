"""`Ledger`: rows belong to requests, return when these end, and run out."""

from __future__ import annotations

import random

import torch

from sottovoce_kernels.layout import NUM_STATE
from sottovoce_router.ledger import Ledger
from sottovoce_router.spans import Spans

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
    parts = 2 * 3 * 50 + 3 * 5 + 3 * 5 * NUM_STATE + 1  # and a vector that is never read
    assert ledger.num_bytes == 4 * parts
    whole = Ledger(3, 5, 50, CPU, 20, 8, torch.bfloat16)
    assert whole.tensors.vectors.shape == (21, 8)
    assert whole.num_bytes - ledger.num_bytes == 21 * 8 * 2 - 4


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


def test_vectors_are_spans_of_their_own() -> None:
    ledger = Ledger(4, 1, 1, CPU, num_vectors=10)
    assert [ledger.vectors_of("a", 4), ledger.vectors_of("b", 3)] == [0, 4]
    assert ledger.vectors_of("a", 4) == 0, "a request keeps its span"
    assert ledger.vectors_of("c", 4) is None, "three are left"
    ledger.release("a")
    assert ledger.vectors_of("d", 5) is None, "no gap is long enough"
    assert [ledger.vectors_of("c", 3), ledger.vectors_of("e", 1)] == [0, 3]
    assert ledger.vectors_of("f", 3) == 7
    assert ledger.vectors_of("g", 1) is None


def test_spans_never_overlap() -> None:
    """Whatever comes and goes."""
    spans, rng = Spans(50), random.Random(1)
    live: dict[str, range] = {}
    num_refused = 0
    for number in range(2000):
        if live and rng.random() < 0.5:
            name = rng.choice(list(live))
            spans.release(name)
            del live[name]
        length = rng.randint(1, 20)
        start = spans.take(str(number), length)
        if start is None:
            num_refused += 1
            taken = {i for span in live.values() for i in span}
            gaps = "".join(" x"[i in taken] for i in range(50)).split("x")
            assert max(map(len, gaps)) < length
            continue
        assert start + length <= 50
        for span in live.values():
            assert not set(span) & set(range(start, start + length))
        live[str(number)] = range(start, start + length)
    assert 100 < num_refused < 1900
