"""The compiled Triton kernels on a GPU, against the float32 reference on the CPU."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from decided import check_confidence as check_row
from decided import check_equal, run_reference
from scenes import (
    PAGE,
    Scene,
    make_scene,
    make_thinking_scene,
    several_tokens,
    thinking_state,
)

from sottovoce_kernels import confidence, decide, mix, mix_full, reference, warm_up
from sottovoce_kernels.layout import MAX_TOP_N, Confidence, IntParam, Policy

IS_HERE = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") == "0"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not IS_HERE, reason="needs a CUDA device: make test-gpu"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (2, 33), (7, 63), (5, 1000), (2, 9001), (1, 151936), (40, 49152), (600, 9001)]


def thinking(rows: int, vocab: int, dtype: torch.dtype) -> Scene:
    scene = make_scene(rows, vocab, dtype)
    scene.slots.ints[:, IntParam.POLICY] = Policy.SOFT
    scene.slots.state[:] = thinking_state()
    return scene


def on_gpu(conf: Confidence) -> Confidence:
    return Confidence(**{name: value.cuda() for name, value in vars(conf).items()})


def check_confidence(scene: Scene) -> None:
    """All rows are active; every candidate and sum is the reference's."""
    gpu = scene.on("cuda")
    got = confidence(gpu.logits, gpu.slot_ids, gpu.slots)
    got = Confidence(**{name: value.cpu() for name, value in vars(got).items()})
    want = reference.confidence(scene.logits, scene.slot_ids, scene.slots)
    for row in range(len(scene.slot_ids)):
        check_row(got, want, row, MAX_TOP_N, rel=2e-5)  # its exponentials are approximate


def run_decide(scene: Scene, conf: Confidence) -> None:
    decide(
        conf, scene.sampled, scene.slot_ids, scene.positions, scene.prefill_lens, scene.seeds,
        scene.tokens, scene.slots, scene.ledger, scene.markers, scene.record,
    )  # fmt: skip


def check_decide(scene: Scene) -> None:
    gpu = scene.on("cuda")
    run_decide(gpu, on_gpu(reference.confidence(scene.logits, scene.slot_ids, scene.slots)))
    run_reference(scene)
    check_equal(gpu.on("cpu"), scene)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "vocab"), SHAPES)
def test_confidence_equals_the_reference(rows: int, vocab: int, dtype: torch.dtype) -> None:
    check_confidence(thinking(rows, vocab, dtype))


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "few"])
def test_confidence_of_hostile_orders(order: str, rows: int) -> None:
    """Rows in which every value enters the best, or none after the first, or hardly one is live."""
    scene = thinking(rows, 40000, torch.float32)
    values = torch.linspace(-4, 4, 40000)
    if order == "few":
        live = torch.arange(40000) % 3001 == 7
        values = torch.where(live, values, -torch.inf)
    orders = {"descending": values.flip(0), "equal": torch.ones(40000)}
    scene.logits[:] = orders.get(order, values)
    check_confidence(scene)


@pytest.mark.parametrize("trace", [0, 4, 32])
@pytest.mark.parametrize(("rows", "vocab"), [(1, 40), (5, 63), (120, 1000), (300, 1000)])
def test_decide_equals_the_reference(rows: int, vocab: int, trace: int) -> None:
    check_decide(make_scene(rows, vocab, torch.float32, seed=rows, trace=trace))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("policy", [p for p in Policy if p != Policy.NONE], ids=lambda p: p.name)
def test_every_policy_equals_the_reference(policy: Policy, seed: int) -> None:
    check_decide(make_thinking_scene(policy, 60, 300, seed))


@pytest.mark.parametrize("rows", [1, 4, 16, 64, 256])
def test_split_rows_are_merged(rows: int) -> None:
    """From logits to the ledger, of long rows that several programs share, or none does."""
    scene = make_thinking_scene(Policy.SOFT, rows, 151936)
    gpu = scene.on("cuda")
    run_decide(gpu, confidence(gpu.logits, gpu.slot_ids, gpu.slots))
    run_reference(scene)
    check_equal(gpu.on("cpu"), scene)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("hidden", "vocab_start", "scale"), [(1, 0, 1.0), (63, 0, 3.5), (1000, 40, 1.0), (4096, 0, 1.0)]
)
def test_mix_equals_the_reference(
    hidden: int, vocab_start: int, scale: float, dtype: torch.dtype
) -> None:
    """Also of vectors, of shards, and of several tokens of one request."""
    scene = make_scene(36, 200, torch.float32, seed=3)
    odd = torch.arange(1, scene.slots.ints.shape[0], 2)
    scene.slots.ints[:, IntParam.VECTOR_ROW] = -1
    scene.slots.ints[odd, IntParam.VECTOR_ROW] = odd.int() * PAGE
    run_reference(scene)
    scene.ledger.counts[scene.ledger.counts < -1] = 0  # poison
    vectors = torch.randn(scene.ledger.vectors.shape[0], hidden).to(dtype)
    scene = replace(scene, ledger=replace(scene.ledger, vectors=vectors))
    starts, positions = several_tokens(scene)
    table = torch.randn(150, hidden).to(dtype)
    want = torch.full((int(starts[-1]), hidden), 7.0, dtype=dtype)
    gpu, got = scene.on("cuda"), want.cuda()
    reference.mix(
        want, table, scene.slot_ids, starts, positions, scene.slots, scene.ledger, scale,
        vocab_start,
    )  # fmt: skip
    mix(
        got, table.cuda(), gpu.slot_ids, starts.cuda(), positions.cuda(), gpu.slots, gpu.ledger,
        scale, vocab_start,
    )  # fmt: skip
    assert (want != 7.0).any()
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    torch.testing.assert_close(got.cpu(), want, rtol=tolerance, atol=1e-5)


def test_mix_full_equals_the_reference() -> None:
    scene = make_thinking_scene(Policy.SWI, 24, 1000)
    scene.slots.ints[:, IntParam.VECTOR_ROW] = torch.arange(27).int() * PAGE
    vectors = torch.zeros(scene.ledger.vectors.shape[0], 64)
    scene = replace(scene, ledger=replace(scene.ledger, vectors=vectors))
    gpu, rows, table = scene.on("cuda"), torch.arange(24), torch.randn(1000, 64)
    for s, op, device in ((scene, reference.mix_full, "cpu"), (gpu, mix_full, "cuda")):
        op(
            s.logits, rows.to(device), s.slot_ids, s.positions, s.prefill_lens, s.slots, s.ledger,
            table.to(device), s.markers.special,
        )  # fmt: skip
    assert (scene.ledger.vectors != 0).any()
    found = gpu.ledger.vectors.cpu()
    torch.testing.assert_close(found, scene.ledger.vectors, rtol=1e-3, atol=1e-3, equal_nan=True)


def test_a_captured_graph_does_the_same() -> None:
    """A step's four launches in one CUDA graph, replayed on other logits than it saw."""
    seen = make_thinking_scene(Policy.SOFT, 16, 32000)
    other = make_thinking_scene(Policy.SOFT, 16, 32000, seed=1)
    eager, graphed = replace(seen, logits=other.logits).on("cuda"), seen.on("cuda")
    table, starts = torch.randn(32000, 64, device="cuda"), torch.arange(17).int().cuda()

    def step(scene: Scene, embeds: torch.Tensor) -> None:
        run_decide(scene, confidence(scene.logits, scene.slot_ids, scene.slots))
        after = scene.positions + 1
        mix(embeds, table, scene.slot_ids, starts, after, scene.slots, scene.ledger)

    want, got = torch.zeros(2, 16, 64, device="cuda")
    step(eager, want)  # compiles, too, outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(graphed, got)
    graphed.logits.copy_(eager.logits)
    graph.replay()
    check_equal(graphed.on("cpu"), eager.on("cpu"))
    assert torch.equal(got, want)
    assert (want != 0).any()


def test_nothing_is_compiled_after_warm_up() -> None:
    scene = make_thinking_scene(Policy.SOFT, 300, 40000)
    scene.slots.ints[0, IntParam.POLICY] = Policy.NONE
    gpu = scene.on("cuda")
    table, embeds = (torch.randn(n, 64, device="cuda") for n in (40000, 300))
    warm_up(
        embeds, table, 40000, gpu.prefill_lens, gpu.seeds, gpu.tokens, gpu.slots, gpu.ledger,
        gpu.markers,
    )  # fmt: skip
    before = _num_compiled()
    for rows in (1, 2, 3, 5, 8, 16, 17, 31, 64, 100, 255, 300):
        part = make_thinking_scene(Policy.SOFT, rows, 40000, seed=rows).on("cuda")
        part = replace(part, slots=gpu.slots, ledger=gpu.ledger, markers=gpu.markers)
        run_decide(
            replace(part, prefill_lens=gpu.prefill_lens, seeds=gpu.seeds, tokens=gpu.tokens),
            confidence(part.logits, part.slot_ids, part.slots),
        )
        starts = torch.arange(rows + 1, dtype=torch.int32, device="cuda")
        mix(
            embeds[:rows], table, part.slot_ids, starts, part.positions + 1, part.slots,
            part.ledger,
        )  # fmt: skip
    assert _num_compiled() == before


def _num_compiled() -> int:
    import importlib

    kernels = [("confidence", "_sums_kernel"), ("confidence", "_select_kernel")]
    kernels.append(("decide", "_decide_kernel"))
    kernels.append(("mix", "_mix_kernel"))
    modules = [(importlib.import_module(f"sottovoce_kernels.{m}"), name) for m, name in kernels]
    return sum(
        len(cache[0]) for m, name in modules for cache in getattr(m, name).device_caches.values()
    )
