"""`mix_full`: against the reference, its formula, and what a later `mix` makes of it."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from decided import routes, run_reference
from scenes import Scene, make_scene, make_thinking_scene

from products import counted
from sottovoce_kernels import mix, mix_full, reference
from sottovoce_kernels.layout import (
    FloatParam,
    IntParam,
    LedgerTensors,
    Phase,
    Policy,
    Route,
    State,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# A product of `n` float32 terms in another order, then one rounding to the vector's own type.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


@pytest.fixture(params=["cpu", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for op in ("mix", "mix_full"):
        module = importlib.import_module(f"sottovoce_kernels.{op}")
        monkeypatch.setattr(module, "uses_triton", lambda _: request.param == "triton")
    return str(request.param)


def with_vectors(scene: Scene) -> Scene:
    """Every slot has vectors of its own, of its thinking."""
    scene.slots.ints[:, IntParam.ALL_PHASES] = 0
    num_slots, page = scene.ledger.counts.shape
    scene.slots.ints[:, IntParam.VECTOR_ROW] = torch.arange(num_slots).int() * page
    return scene


def poisoned(scene: Scene, hidden: int, dtype: torch.dtype) -> LedgerTensors:
    """The ledger with vectors that nobody has written."""
    num = scene.ledger.vectors.shape[0]
    return replace(scene.ledger, vectors=torch.full((num, hidden), torch.nan, dtype=dtype))


def arguments(scene: Scene, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return scene.logits, rows, scene.slot_ids, scene.positions, scene.prefill_lens


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("num", "vocab", "hidden", "vocab_start", "scale"),
    [(1, 40, 1, 0, 1.0), (9, 63, 33, 0, 3.5), (40, 1000, 64, 500, 1.0)],
)
def test_equals_the_reference(
    backend: str,
    dtype: torch.dtype,
    num: int,
    vocab: int,
    hidden: int,
    vocab_start: int,
    scale: float,
) -> None:
    """Also of logits that are masked, tied, infinite or forced, of chunks, and of a shard."""
    scene = with_vectors(make_scene(num, vocab, torch.float32, seed=num + 5))
    table = torch.randn(min(vocab - vocab_start, 300), hidden).to(dtype)
    rows = torch.arange(0, num, 2 if num > 1 else 1)
    wanted, got = poisoned(scene, hidden, dtype), poisoned(scene, hidden, dtype)
    for op, ledger in ((reference.mix_full, wanted), (mix_full, got)):
        op(
            *arguments(scene, rows), scene.slots, ledger, table, scene.markers.special, scale,
            vocab_start,
        )  # fmt: skip
    written = ~wanted.vectors[:-1].isnan().any(1)
    assert int(written.sum()) > 0
    slots = scene.slot_ids[rows].tolist()
    read = [i for i, s in enumerate(slots) if reference.is_active(scene.slots, s)]
    at = scene.slots.ints[slots, IntParam.VECTOR_ROW] + scene.positions[rows] + 1 - 5
    some = [int(at[i]) for i in read if written[at[i]]]
    finite = wanted.vectors[some].isfinite().all(1)
    assert num < 9 or int(finite.sum()) > 2
    torch.testing.assert_close(
        got.vectors[some][finite], wanted.vectors[some][finite],
        rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype],
    )  # fmt: skip
    others = torch.ones(len(written), dtype=torch.bool)
    others[at] = False
    assert got.vectors[:-1][others].isnan().all(), "no other vector is touched"


def test_chunks_leave_recorded_vectors_alone(backend: str) -> None:
    """A preempted request's replay comes in pieces, whose last rows sample nothing."""
    scene = with_vectors(make_thinking_scene(Policy.SWI, 8, 60))
    scene.prefill_lens[:] = scene.tokens.shape[1]
    ledger = poisoned(scene, 4, torch.float32)
    table = torch.randn(60, 4)
    mix_full(*arguments(scene, torch.arange(8)), scene.slots, ledger, table, scene.markers.special)
    assert ledger.vectors[:-1].isnan().all()


def test_it_is_the_softmax_of_what_may_be_mixed(backend: str) -> None:
    scene = with_vectors(make_thinking_scene(Policy.SWI, 30, 200))
    scene.slots.floats[:, FloatParam.TEMPERATURE] = 1.0
    ledger = poisoned(scene, 200, torch.float32)
    special = scene.markers.special
    mix_full(
        *arguments(scene, torch.arange(30)), scene.slots, ledger, torch.eye(200), special
    )  # fmt: skip
    num_stopped = 0
    for row, slot in enumerate(scene.slot_ids.tolist()):
        ints = scene.slots.ints[slot]
        p = torch.softmax(scene.logits[row].double().clamp(max=1e30), 0)
        p[special != 0] = 0
        stops = scene.slots.stop_ids[slot, : int(ints[IntParam.NUM_STOP_IDS])].long()
        num_stopped += int((p[stops] > 0).sum())
        p[stops] = 0
        at = int(ints[IntParam.VECTOR_ROW] + scene.positions[row] + 1 - 5)
        if p.sum() > 1e-6:
            torch.testing.assert_close(
                ledger.vectors[at].double(), p / p.sum(), rtol=1e-5, atol=1e-7
            )
    assert num_stopped > 3


def test_shards_add_up_to_the_whole(backend: str) -> None:
    scene = with_vectors(make_thinking_scene(Policy.SWI, 6, 90))
    table = torch.randn(90, 16)
    ledgers = [poisoned(scene, 16, torch.float32) for _ in range(3)]
    for ledger, part in zip(ledgers, (slice(0, 90), slice(0, 50), slice(50, 90)), strict=True):
        mix_full(
            *arguments(scene, torch.arange(6)), scene.slots, ledger, table[part],
            scene.markers.special, vocab_start=part.start,
        )  # fmt: skip
    whole, first, second = (ledger.vectors.nan_to_num(0.0)[:-1] for ledger in ledgers)
    assert (whole != 0).any()
    torch.testing.assert_close(first + second, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_rows_share_one_product(backend: str, dtype: torch.dtype) -> None:
    """A narrow table that a CPU converts part by part is gone through once all the same."""
    vocab = 9000
    scene = with_vectors(make_thinking_scene(Policy.SWI, 30, vocab))
    scene.slots.state[scene.slot_ids[:10].long(), State.PHASE] = Phase.ANSWER
    is_cpu, rows = backend == "cpu", torch.arange(0, 30, 2)
    ledger, table = poisoned(scene, 8, dtype), torch.randn(vocab, 8).to(dtype)
    with counted() as products:
        mix_full(*arguments(scene, rows), scene.slots, ledger, table, scene.markers.special)
    is_in_parts = is_cpu and dtype != torch.float32
    num_rows = 10 if is_cpu else 15  # a CPU leaves out those that no longer ask
    num_weights = num_rows if is_cpu or dtype == torch.float32 else 2 * num_rows
    parts = [4096, 4096, 808] if is_in_parts else [vocab]
    assert products == [[(num_weights, part), (part, 8)] for part in parts]


def test_without_a_row_that_asks_there_is_no_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU; on a GPU, where that is not known, the sampler tells by its requests."""
    module = importlib.import_module("sottovoce_kernels.mix_full")
    monkeypatch.setattr(module, "uses_triton", lambda _: False)
    scene = with_vectors(make_thinking_scene(Policy.SWI, 8, 60))
    scene.slots.state[:, State.PHASE] = Phase.ANSWER
    ledger, rows = poisoned(scene, 4, torch.float32), torch.arange(8)
    with counted() as products:
        mix_full(
            *arguments(scene, rows), scene.slots, ledger, torch.randn(60, 4), scene.markers.special
        )
    assert products == []


@pytest.mark.parametrize(("stay", "blend"), [(-5, 0.7), (0, 1.0)], ids=["leaves", "is soft"])
def test_mix_feeds_the_vector_and_the_anchor(backend: str, stay: int, blend: float) -> None:
    """b p E + (1 - b) E[end marker] where `swi` leaves soft; else the mixture alone."""
    scene = with_vectors(make_thinking_scene(Policy.SWI, 40, 300))
    scene.slots.floats[:, FloatParam.TEMPERATURE] = 1.0
    scene.slots.floats[:, FloatParam.EXIT_BLEND] = blend
    scene.slots.state[:, State.STAY] = stay
    scene.slots.state[:, State.REFERENCE] = torch.tensor([100.0]).view(torch.int32)
    ledger = poisoned(scene, 8, torch.float32)
    scene = replace(scene, ledger=ledger)
    table = torch.randn(300, 8)
    mix_full(*arguments(scene, torch.arange(40)), scene.slots, ledger, table, scene.markers.special)
    run_reference(scene)
    embeds = torch.full((40, 8), 7.0)
    starts = torch.arange(41).int()
    mix(embeds, table, scene.slot_ids, starts, scene.positions + 1, scene.slots, ledger)
    num_soft = 0
    for row, slot in enumerate(scene.slot_ids.tolist()):
        if routes(scene)[row] != Route.SOFT:
            assert (embeds[row] == 7.0).all()
            continue
        ints = scene.slots.ints[slot]
        index = int(scene.positions[row]) + 1 - int(ints[IntParam.PROMPT_LEN])
        share = blend + (1 - blend) * index / int(ints[IntParam.MAX_TOKENS])
        vector = ledger.vectors[int(ints[IntParam.VECTOR_ROW]) + index]
        want = share * vector + (1 - share) * table[int(scene.markers.natural_end[0])]
        torch.testing.assert_close(embeds[row], want, rtol=1e-5, atol=1e-5)
        num_soft += 1
    assert num_soft > 15


def test_the_record_holds_a_part_of_the_mixture() -> None:
    """The best components with the probability that each has in the whole vocabulary."""
    scene = with_vectors(make_thinking_scene(Policy.SWI, 30, 200))
    scene.slots.floats[:, FloatParam.TEMPERATURE] = 1.0
    run_reference(scene)
    num_parts = 0
    for row in [r for r, route in enumerate(routes(scene)) if route == Route.SOFT]:
        p = torch.softmax(scene.logits[row].double().clamp(max=1e30), 0)
        width = int(scene.record.ids[row, 0]) // 8
        ids, weights = scene.record.ids[row, 2 : 2 + width], scene.record.values[row, 2 : 2 + width]
        assert weights.tolist() == pytest.approx(p[ids].tolist(), rel=1e-4)
        num_parts += float(weights.sum()) < 0.99
    assert num_parts > 5
