"""The overheads' benchmark: what it measures is what it says, on small sizes and a recorded log."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest
import torch
from benchmarks.engine import Done
from benchmarks.kernels.batch import Batch, Shape
from benchmarks.overheads import books, http, ledger, profile, replay, startup

CPU = torch.device("cpu")
SHAPE = Shape(rows=2, vocab=500, top_n=4, hidden=6, dtype=torch.float32)

# A start's log, cut to the lines that matter and some that do not.
LOG = """\
sottovoce: preparing tiny-reasoner
(APIServer pid=1) INFO [api_utils.py:286] non-default args: {'model_tag': 'm'}
(EngineCore pid=2) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(EngineCore pid=2) INFO [model_runner.py:392] Loading model from scratch...
(EngineCore pid=2) INFO [model_runner.py:424] Model loading took 0.11 GiB memory and 2.4 seconds
(EngineCore pid=2) INFO [model_runner.py:424] Model loading took 0.01 GiB memory and 0.1 seconds
(EngineCore pid=2) INFO [model_runner.py:16] Warming up done.
(EngineCore pid=2) INFO [core.py:402] init engine (profile, create kv cache, warmup model) took 8.1 s
(APIServer pid=1) INFO [launcher.py:186] Available routes are:
""".splitlines()


def test_a_ledger_takes_what_it_counts_and_pages_only_as_they_are_written() -> None:
    found = ledger.memory(requests=16, positions=8192)
    assert found["bytes_per_position"] == ledger.TOP_N * 8 + 4 + 24
    assert found["counted_bytes"] >= 16 * 8192 * found["bytes_per_position"]
    assert found["resident_bytes_when_made"] < found["counted_bytes"] / 10
    assert found["resident_bytes_when_full"] == pytest.approx(found["counted_bytes"], rel=0.1)


def test_a_step_goes_where_it_is_sent() -> None:
    batch = Batch(SHAPE, 1, CPU, context=20)
    batch.go_to(17)
    batch.step(0)
    assert batch.ledger.counts.nonzero().tolist() == [[0, 18], [1, 18]]
    assert not batch.embeds.eq(0).any()


def test_a_replay_mixes_every_position() -> None:
    batch, out = Batch(SHAPE, 1, CPU, context=20), torch.full((20, 6), torch.nan)
    batch.fill_ledger()
    batch.replay(out)
    ids = batch.ledger.ids[0].view(20, 4)
    torch.testing.assert_close(out, batch.table[ids].mean(1))


def test_books_are_kept_of_every_step() -> None:
    found = books.cpu_us_per_step(2)
    assert {name: len(values) for name, values in found.items()} == {
        "watch": 2, "watch and trace": 2, "enter": 2
    }  # fmt: skip
    assert min(found["watch and trace"]) > min(found["watch"]) > 0
    outputs = books._outputs()
    assert len(books._trace(outputs).choices[0].steps) == 1000
    assert books._trace(outputs).choices[0].shown == 1000


def test_phases_end_with_their_lines() -> None:
    times = iter([(2.0, 2.0), (5.0, 4.0), (6.0, 4.5), (9.0, 9.0), (10.0, 9.5), (11.0, 10.0)])
    ends = list(startup.marks(LOG, lambda: next(times)))
    found = startup.phases([*ends, (startup.LAST_PHASE, (12.0, 11.0))])
    assert [dataclasses.astuple(phase) for phase in found] == [
        ("imports, arguments", 2.0, 2.0),
        ("engine process, its imports", 3.0, 2.0),
        ("worker", 1.0, 0.5),
        ("model", 3.0, 4.5),
        # "model state" has no line here, and falls to the next.
        ("compilation or its cache, warm-up", 1.0, 0.5),
        ("KV cache, kernels", 1.0, 0.5),
        ("HTTP", 1.0, 1.0),
    ]


def test_the_clock_reads_children_that_have_ended() -> None:
    import subprocess
    import sys

    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'sum(range(4 * 10**7)); input()'], stdin=-1);"
        "input(); p.communicate(b'x'); print('gone', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        clock = startup._Clock(process.pid)
        while (before := clock.read()[1]) < 0.2:
            pass
        print("x", file=process.stdin, flush=True)
        process.stdout.readline()
        assert clock.read()[1] > before  # the child worked on
        print("x", file=process.stdin, flush=True)


class _Crowd:
    """Stands in for an engine."""

    preempts = True

    def __init__(self, *_: Any, **options: Any) -> None:
        assert not options["disable_log_stats"]

    def measure(self, prompt: str, lengths: list[int], sampling: Any) -> Done:
        return Done(1.5 if "extra_args" in sampling else 1.0, 3 if self.preempts else 0)

    def close(self) -> None: ...


def test_a_crowded_engine_must_preempt(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(replay, "Engine", _Crowd)
    monkeypatch.setattr(replay, "report", lambda *row, **also: rows.append((*row, also)))
    replay.bench_engine("m", "float32", 2)
    ((_, _, _, pairs, also),) = rows
    assert also["preemptions"] == {"latent": 9, "explicit": 9}
    assert pairs == [(1.5, 1.0)] * 2
    monkeypatch.setattr(_Crowd, "preempts", False)
    with pytest.raises(RuntimeError, match="nothing was preempted"):
        replay.bench_engine("m", "float32", 2)


def test_the_crowd_needs_little_memory() -> None:
    assert replay.CROWDED["num_gpu_blocks_override"] == 48
    assert replay.CROWDED["kv_cache_memory_bytes"] == 64 << 20


def test_a_position_is_mixed_and_prefilled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def __init__(self, *_: Any, **options: Any) -> None:
            assert not options["enable_prefix_caching"]

        def run(self, prompt: str, lengths: list[int], sampling: Any) -> float:
            assert lengths == [1]
            return 0.5 + prompt.count(" the") * 1e-3

        def close(self) -> None: ...

    rows: list[Any] = []
    monkeypatch.setattr(replay, "Engine", Engine)
    monkeypatch.setattr(replay, "cpu_seconds", lambda call, copies: 0.036)
    monkeypatch.setattr(replay, "report", lambda *row, **also: rows.append((*row, also)))
    replay.bench_share("m", "float32", 2)
    ((_, about, _, pairs, also),) = rows
    assert also == {"mix_us": 20.0, "prefill_us": 1000.0}
    assert about["positions"] == 1800
    assert [mix / prefill for mix, prefill in pairs] == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize("soft", [3, 2])
def test_all_steps_must_be_soft(soft: int) -> None:
    usage = {"usage": {"completion_tokens_details": {"soft_steps": soft}}}
    stream = f'data: {{"usage": null}}\n\ndata: {json.dumps(usage)}\n\ndata: [DONE]\n\n'
    if soft == 3:
        http.check_soft(stream, 3)
    else:
        with pytest.raises(RuntimeError, match="not all of 3 steps"):
            http.check_soft(stream, 3)


def _step(start: float, slow: float = 0.0) -> list[dict[str, Any]]:
    """A step of 100 us: 10 of a matmul in 30 of a compiled model in 50, and 5 after them."""
    spans = [("execute_context_0(0)_generation_8(8)", 0, 50), ("## Call CompiledFxGraph", 10, 30),
             ("_C::onednn_mm", 20, 10), ("aten::argmax", 60 + slow, 5)]  # fmt: skip
    return [
        {"cat": "cpu_op", "name": name, "ts": start + at, "dur": dur} for name, at, dur in spans
    ]


def test_an_op_has_the_time_that_those_in_it_leave() -> None:
    prefill = [{"cat": "cpu_op", "name": "_C::onednn_mm", "ts": 0.0, "dur": 900.0}]
    # The third step is slow, and the last is not whole.
    starts = (1000, 1100, 1200, 1900)
    events = [*prefill, *(e for start in starts for e in _step(start)), {"name": "meta"}]
    found = profile.op_profile(events, 8)
    assert found.step_ms == pytest.approx(0.1)
    assert found.shares == {
        "between ops": 0.65, "compiled model": 0.2, "matmul": 0.1, "other ops": 0.05
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="no two steps of 4"):
        profile.op_profile(events, 4)


CORE = "run_engine_core (vllm/v1/engine/core.py:1);step (vllm/v1/engine/core.py:2)"
SAMPLE = (
    f"{CORE};sample (sottovoce_router/sampler.py:9);__call__ (vllm/v1/worker/gpu/sample/s.py:1)"
)


def test_the_innermost_frame_that_is_known_is_at_work() -> None:
    stacks = [
        f"{CORE};_process_input_queue (vllm/v1/engine/core.py:3);get (queue.py:1) 4",
        f"{CORE};forward (vllm/model_executor/models/llama.py:1);call (torch/_ops.py:1) 3",
        f"{SAMPLE};gumbel (sottovoce_kernels/engine/gumbel.py:1) 2",
        f"{SAMPLE};_read (sottovoce_router/sampler.py:7);f (sottovoce_kernels/confidence.py:1) 1",
        "run (vllm/v1/engine/core.py:1);a thread that is not the core's own (x.py:1) 90",
    ]
    assert profile.stack_shares(stacks) == {
        "idle": 0.4, "model": 0.3, "vLLM's sampler": 0.2, "our kernels": 0.1
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="empty"):
        profile.stack_shares([])


def test_without_py_spy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="pip install py-spy"):
        profile.py_spy()


def test_being_scraped_lasts_as_long_as_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Event, Thread

    seen, twice = list[str](), Event()

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            if len(seen) == 2:
                twice.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setattr(http, "_SCRAPE_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with http._scraped(f"http://127.0.0.1:{server.server_port}"):
            assert twice.wait(30)
        count = len(seen)
        server.shutdown()
    assert set(seen) == {"/metrics"}
    assert len(seen) == count
    with pytest.raises(httpx.ConnectError), http._scraped("http://127.0.0.1:9"):
        pass
