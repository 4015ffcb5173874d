"""`confidence`, `decide` and `mix`: numba and interpreted Triton against the float32 reference."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from decided import check_confidence, check_equal, routes, run_both, run_reference
from scenes import PAGE, Scene, make_scene, several_tokens, thinking_state

from sottovoce_kernels import confidence, decide, mix, reference
from sottovoce_kernels.layout import MAX_TOP_N, NEVER, RECORD_EXTRA, FloatParam, IntParam, Route

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Of the interpreter's seconds, one type's for what is the same once the logits are read.
SCENES = [(*shape, torch.float32) for shape in [(1, 1), (2, 33), (23, 100)]]
SCENES += [(*shape, dtype) for shape in [(7, 63), (5, 1000), (2, 9001)] for dtype in DTYPES]
# Rows, vocabulary, and how many alternatives the record has room for.
RECORDS = [(rows, vocab, trace) for rows, vocab in [(1, 40), (5, 63)] for trace in (0, 4, 32)]
RECORDS += [(23, 1000, 0), (23, 1000, 4), (120, 1000, 32)]


@pytest.fixture(params=["numba", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for op in ("confidence", "decide", "mix"):
        module = importlib.import_module(f"sottovoce_kernels.{op}")
        monkeypatch.setattr(module, "uses_triton", lambda _: request.param == "triton")
    return request.param


def active_rows(scene) -> list[int]:
    slots = scene.slot_ids.tolist()
    return [r for r, s in enumerate(slots) if reference.is_active(scene.slots, s)]


@pytest.mark.parametrize(("rows", "vocab", "dtype"), SCENES, ids=str)
def test_confidence_equals_reference(backend, rows, vocab, dtype):
    scene = make_scene(rows, vocab, dtype)
    want = reference.confidence(scene.logits, scene.slot_ids, scene.slots)
    got = confidence(scene.logits, scene.slot_ids, scene.slots)
    for row in active_rows(scene):
        slot = int(scene.slot_ids[row])
        check_confidence(got, want, row, int(scene.slots.ints[slot, IntParam.TOP_N]))


def test_confidence_reads_nan_as_masked(backend):
    scene = make_scene(4, 3000, torch.float32)
    scene.slots.ints[:, IntParam.POLICY] = 1
    scene.slots.state[:] = thinking_state()
    masked = scene.logits.clone()
    masked[:, ::7] = -torch.inf
    scene.logits[:, ::7] = torch.nan
    want = reference.confidence(masked, scene.slot_ids, scene.slots)
    got = confidence(scene.logits, scene.slot_ids, scene.slots)
    for row, slot in enumerate(scene.slot_ids.tolist()):
        check_confidence(got, want, row, int(scene.slots.ints[slot, IntParam.TOP_N]))


def hostile(order: str) -> torch.Tensor:
    """A row in which every value enters the best, or none after the first, or hardly one is live."""
    values, at = torch.linspace(-4, 4, 2300), torch.arange(2300)
    lowest = torch.finfo(torch.float32).min
    return {
        "ascending": values,
        "descending": values.flip(0),
        "equal": torch.ones(2300),
        "zeros": torch.where(at % 2 == 0, -0.0, 0.0),
        "few": torch.where(at % 301 == 7, values, -torch.inf),
        "late": torch.where(at == 2100, 1e9, values),
        "infinite": torch.where(at == 2100, torch.inf, values),
        "low, then live": torch.where(at < 1500, lowest, values),
        "all low": torch.full((2300,), lowest),
    }[order]


@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "zeros", "few", "late",
                                   "infinite", "low, then live", "all low"])  # fmt: skip
def test_confidence_of_hostile_rows(backend, order):
    scene = make_scene(2, 2300, torch.float32)
    scene.slots.ints[:, IntParam.POLICY] = 1
    scene.slots.floats[:, FloatParam.TEMPERATURE] = torch.tensor([0.01, 0.2, 0.6, 1.0, 2.0])
    scene.slots.state[:] = thinking_state()
    scene.logits[:] = hostile(order)
    want = reference.confidence(scene.logits, scene.slot_ids, scene.slots)
    got = confidence(scene.logits, scene.slot_ids, scene.slots)
    for row, slot in enumerate(scene.slot_ids.tolist()):
        n = MAX_TOP_N if backend == "triton" else int(scene.slots.ints[slot, IntParam.TOP_N])
        check_confidence(got, want, row, n)


@pytest.mark.parametrize(("rows", "vocab", "trace"), RECORDS)
def test_decide_equals_reference(backend, rows, vocab, trace):
    want = make_scene(rows, vocab, torch.float32, seed=rows, trace=trace)
    check_equal(run_both(want), want)


def test_scenes_reach_every_route():
    scene = make_scene(120, 1000, torch.float32, seed=120)
    run_reference(scene)
    assert set(routes(scene)) == {int(r) for r in Route} - {int(Route.LATENT)}
    assert int(scene.record.ids[:, 0].max()) // 8 == scene.record.ids.shape[1] - RECORD_EXTRA


def decide_alone(logits: torch.Tensor) -> Scene:
    """Three soft rows in the thinking phase, decided on the same logits."""
    scene = make_scene(3, logits.numel(), torch.float32)
    scene.slots.ints[:, IntParam.POLICY] = 1
    scene.slots.ints[:, IntParam.COLD_STEPS] = 0
    scene.slots.ints[:, IntParam.CLOSE_AT] = NEVER
    scene.slots.floats[:, FloatParam.TEMPERATURE] = 1.0
    scene.slots.state[:] = thinking_state()
    scene.prefill_lens[:] = 5
    scene.logits[:] = logits
    conf = confidence(scene.logits, scene.slot_ids, scene.slots)
    decide(
        conf, scene.sampled, scene.slot_ids, scene.positions, scene.prefill_lens, scene.seeds,
        scene.tokens, scene.slots, scene.ledger, scene.markers, scene.record,
    )  # fmt: skip
    return scene


def test_a_row_with_nothing_allowed_feeds_its_sampled_token(backend):
    scene = decide_alone(torch.full((50,), -torch.inf))
    assert scene.sampled.tolist() == make_scene(3, 50, torch.float32).sampled.tolist()
    assert (scene.record.ids[:, 0] == int(Route.DISCRETE)).all(), "and no alternatives"
    assert (scene.record.values[:, :2] == 0).all()


def test_an_infinite_logit_forces_its_token(backend):
    logits = torch.randn(50)
    logits[7] = torch.inf
    scene = decide_alone(logits)
    assert scene.sampled.tolist() == [7, 7, 7]
    assert (scene.record.ids[:, 0] % 8 == int(Route.FORCED)).all()
    assert scene.record.values[:, 0].tolist() == [1.0, 1.0, 1.0]


def test_positions_before_the_ledgers_first_are_left_alone(backend):
    """A dummy batch over a live slot: more rows than the prompt has, all at position 0."""
    scene = make_scene(4, 200, torch.float32)
    scene.ledger.counts.fill_(3)
    scene.ledger.ids.fill_(1)
    starts = torch.arange(0, 41, 10, dtype=torch.int32)
    embeds = torch.full((40, 8), 7.0)
    positions = torch.zeros(40, dtype=torch.int64)
    mix(embeds, torch.randn(200, 8), scene.slot_ids, starts, positions, scene.slots, scene.ledger)
    assert (embeds == 7.0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("hidden", "vocab_start", "scale"), [(1, 0, 1.0), (63, 0, 3.5), (1000, 40, 1.0)]
)
def test_mix_equals_reference(backend, dtype, hidden, vocab_start, scale):
    scene = make_scene(36, 200, torch.float32, seed=3)
    odd = torch.arange(1, scene.slots.ints.shape[0], 2)
    scene.slots.ints[:, IntParam.VECTOR_ROW] = -1
    scene.slots.ints[odd, IntParam.VECTOR_ROW] = odd.int() * PAGE
    run_reference(scene)
    scene.ledger.counts[scene.ledger.counts < -1] = 0  # poison
    vectors = torch.randn(scene.ledger.vectors.shape[0], hidden).to(dtype)
    ledger = replace(scene.ledger, vectors=vectors)
    starts, positions = several_tokens(scene)
    table = torch.randn(150, hidden).to(dtype)
    want = torch.full((int(starts[-1]), hidden), 7.0, dtype=dtype)
    got = want.clone()
    rest = (table, scene.slot_ids, starts, positions, scene.slots, ledger, scale, vocab_start)
    reference.mix(want, *rest)
    mix(got, *rest)
    counts = scene.ledger.counts
    assert (counts > 0).any(), "the scene must hold a soft token"
    assert (counts == -1).any(), "the scene must hold one of the whole vocabulary"
    # One rounding of a float32 sum: half a unit of the output type.
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=1e-5)
