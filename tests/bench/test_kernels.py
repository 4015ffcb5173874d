"""The kernels' benchmark: its arithmetic, its roof, and that what it times is a step as it claims."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.kernels import __main__ as bench
from benchmarks.kernels import clock, roof
from benchmarks.kernels.batch import Batch, Shape
from benchmarks.kernels.compiled import loads

from sottovoce_kernels.layout import MAX_TOP_N, Phase, State

CPU = torch.device("cpu")
SMALL = Shape(rows=3, vocab=5000, top_n=10, hidden=6, dtype=torch.float32)


def test_bytes_are_those_of_the_tensors() -> None:
    """By hand, of the tensors that the ops are given: each once per reader and once per writer."""
    batch, found = Batch(SMALL, 1, CPU), SMALL.num_bytes()
    candidates = 3 * (MAX_TOP_N * (4 + 4) + 3 * 4)
    groups = 3 * math.ceil(SMALL.vocab / 128) * 4
    again = 3 * min(SMALL.vocab, 32 * 128) * 4
    entry = 3 * (10 * (4 + 4) + 4)
    state = batch.ledger.state[:, 0].nbytes
    record = batch.record.ids.nbytes + batch.record.values.nbytes
    rows = 3 * 10 * batch.table[0].nbytes + batch.embeds.nbytes
    assert found == {
        "read": batch.logits.nbytes,
        "confidence": batch.logits.nbytes + 2 * groups + again + candidates,
        "decide": candidates + entry + state + record,
        "mix": entry + rows,
    }
    more = 2 * groups + again + 2 * candidates + 2 * entry + state + record + rows
    assert SMALL.over_read() == pytest.approx(1 + more / batch.logits.nbytes)


def test_a_step_is_soft_with_all_its_terms_and_the_same_every_time() -> None:
    torch.manual_seed(0)
    batch = Batch(SMALL, 2, CPU)
    seen = []
    for copy in (0, 0, 1):
        batch.embeds.fill_(torch.nan)
        batch.step(copy)
        seen.append(batch.embeds.clone())
        assert batch.ledger.counts[:, 1].tolist() == [10] * 3
        assert batch.slots.state[:, State.PHASE].tolist() == [Phase.THINK] * 3
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2]), "copies differ"
    top = batch.logits[0].topk(10)
    w = torch.softmax(top.values / 0.6, dim=-1)
    want = (w[..., None] * batch.table[top.indices]).sum(1)
    torch.testing.assert_close(seen[0], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["numba", "triton"])
@pytest.mark.parametrize("size", [1, 63, 5000, 600_001])
def test_the_roof_reads_every_value(
    backend: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roof, "uses_triton", lambda _: backend == "triton")
    ways = [(7, 2048), (3, 8192)]
    monkeypatch.setattr(roof, "READS", ways)
    for place, way in itertools.product({0, size // 2, size - 1}, ways):
        values = torch.zeros(size)
        values[place] = 5.0
        out = roof.new_output(CPU).fill_(0)
        roof.read(values, out, way)
        most = out.view(torch.float32).max() if backend == "numba" else out.max()
        assert most == 5.0


def test_copies_outgrow_the_cache_within_limits() -> None:
    assert clock.num_copies(10, 100) == 40
    assert clock.num_copies(128 << 10, 256 << 20) == 8192
    assert clock.num_copies(300 << 20, 1 << 30) == 3
    assert clock.num_copies(1 << 31, 1 << 20) == 1


def test_the_cpu_clock_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []

    def call(copy: int) -> None:
        asked.append(copy)
        now[0] += 0.01

    monkeypatch.setattr("benchmarks.kernels.clock.time.perf_counter", lambda: now[0])
    assert clock.cpu_seconds(call, 3) == pytest.approx(0.01)
    assert asked == [0, 1, 2, 0, 1, 2]


class _Graph:
    """Stands in for a CUDA graph: what is called while it is captured, a replay calls again."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        _Graph.current = self  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        del _Graph.current  # type: ignore[attr-defined]

    def replay(self) -> None:
        for call in self.calls:
            call()


def test_the_gpu_clock_captures_a_turn_over_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def call(copy: int) -> None:
        asked.append(copy)
        graph: Any = getattr(_Graph, "current", None)
        if graph is not None:
            graph.calls.append(lambda: asked.append(-1))

    def do_bench(run: Callable[[], None], **_: Any) -> float:
        run()
        return 6.0

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    monkeypatch.setattr("triton.testing.do_bench", do_bench)
    assert clock.gpu_seconds(call, 3) == pytest.approx(0.002)
    assert asked == [0, 1, 2, 0, 1, 2, -1, -1, -1]


def test_loads_of_a_ptx() -> None:
    ptx = """
        ld.global.b64 { %rd15 }, [ %rd16 + 0 ];
        @%p6 ld.global.v4.b32 { %r87, %r88, %r89, %r90 }, [ %rd28 + 0 ];
        @%p6 ld.global.L1::evict_last.v2.b32 { %r1, %r2 }, [ %rd2 + 0 ];
        st.global.v4.b32 [ %rd1 + 0 ], { %r1 };
        ld.shared.v4.b32 { %r1 }, [ %r2 ];
    """
    assert loads(ptx) == {"loads_of_16_bytes": 1, "lesser_loads": 2}


def test_a_run_writes_a_row_for_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(bench, "write", lambda name, row: written.append(row))
    monkeypatch.setattr(
        bench, "report", lambda *row: written.append({"metric": row[2], "pairs": row[3], **row[1]})
    )
    # The tests' process has Triton in the interpreter, which is too slow to be timed.
    for name in ("confidence", "decide", "mix"):
        module = importlib.import_module(f"sottovoce_kernels.{name}")
        monkeypatch.setattr(module, "uses_triton", lambda _: False)
    monkeypatch.setattr(roof, "uses_triton", lambda _: False)
    monkeypatch.setattr(clock, "_MIN_S", 1e-6)
    monkeypatch.setattr(bench, "_caches", lambda _: 1 << 14)
    sizes = ["--rows", "1", "2", "--vocab", "5000", "--top-n", "3"]
    bench.main(["bytes", "cpu", "--rounds", "2", *sizes])
    counted, *timed = written
    assert counted["over_read"] > 1
    assert {row["metric"].split()[0] for row in timed} == {"step", "confidence"}
    for row in timed:
        assert len(row["pairs"]) == 2
        assert all(step > 0 and roof > 0 for step, roof in row["pairs"])
    assert [row["rows"] for row in timed] == [1, 1, 2, 2]
    assert dataclasses.asdict(SMALL).keys() <= timed[0].keys()
