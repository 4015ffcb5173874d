"""The peers: that a plain loop computes what it says, whatever its rows are refilled with; the curves."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import psutil
import pytest
import torch
from benchmarks import engine as engines
from benchmarks.engine import Answer, Done
from benchmarks.loads import LATENT
from benchmarks.peers import __main__ as peers
from benchmarks.peers import sweep
from benchmarks.peers.loop import Loop
from benchmarks.peers.memory import Peak, resident_bytes
from benchmarks.peers.policies import TOP_K, TOP_N, Explicit, Soft, Swi, filtered
from transformers import LlamaConfig, LlamaForCausalLM

from sottovoce_kernels.layout import (
    MAX_TOP_N,
    NUM_FLOAT_PARAMS,
    NUM_INT_PARAMS,
    FloatParam,
    IntParam,
    Slots,
)
from sottovoce_kernels.reference_policies import mixture_weights

VOCAB, PROMPT = 97, "prompt"
IDS = torch.tensor([[5, 17, 40, 3]])


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


class _Recorder(Explicit):
    """Greedy, and keeps what it fed to every request, in the order in which they ended or not."""

    def __init__(self, table: torch.Tensor, batch_size: int) -> None:
        super().__init__(table, greedy=True)
        self.fed: list[list[int]] = [[] for _ in range(batch_size)]
        self.done: list[list[int]] = []

    def start(self, row: int) -> None:
        self.done.append(self.fed[row])
        self.fed[row] = []

    def inputs(self, logits: torch.Tensor) -> torch.Tensor:
        for row, token in zip(self.fed, self.tokens(logits).tolist(), strict=True):
            row.append(token)
        return super().inputs(logits)


def loop_of(model: Any, policy: str) -> Loop:
    loop = Loop.__new__(Loop)
    loop._model, loop._policy, loop._end_marker = model, policy, "</think>"
    loop._table = model.get_input_embeddings().weight
    loop._tokenizer = lambda *_, **__: type("Encoded", (), {"input_ids": IDS})
    return loop


@pytest.mark.parametrize("lengths", [[3, 9, 5, 1, 7, 2], [6, 6, 6, 6], [2, 30, 2, 2, 2, 2]])
def test_refilled_rows_think_as_if_alone(
    model: LlamaForCausalLM, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.inference_mode():
        want = model.generate(IDS, max_new_tokens=40, do_sample=False, eos_token_id=None)
    alone = want[0, IDS.shape[1] :].tolist()
    loop, recorder = loop_of(model, "greedy"), _Recorder(model.get_input_embeddings().weight, 2)
    monkeypatch.setattr(loop, "policy", lambda size: recorder)
    ends = loop.run(PROMPT, lengths, 2, refills=True)
    assert len(ends) == len(lengths)
    assert ends == sorted(ends)
    fed = [*recorder.done, *recorder.fed]
    assert len(fed) == len(lengths)
    for row in fed:
        assert row == alone[: len(row)]
    # The last of each row is computed on until all have ended.
    ended, asked = Counter(map(len, recorder.done)), Counter(n - 1 for n in lengths)
    assert ended <= asked
    assert max(map(len, recorder.fed)) >= max((asked - ended).elements())


def test_static_batches_last_as_long_as_their_longest_row(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, steps = loop_of(model, "soft"), []
    soft = Soft(model.get_input_embeddings().weight)
    original = soft.inputs

    def inputs(logits: torch.Tensor) -> torch.Tensor:
        steps.append(logits.shape[0])
        return original(logits)

    monkeypatch.setattr(soft, "inputs", inputs)
    monkeypatch.setattr(loop, "policy", lambda size: soft)
    monkeypatch.setattr("benchmarks.peers.loop.time.perf_counter", lambda: 10 + len(steps))
    ends = loop.run(PROMPT, [2, 5, 3, 4, 6], 2)
    assert steps == [2] * 4 + [2] * 3 + [1] * 5
    # A request ends with its own last token, and its batch with the longest.
    assert ends == [1, 4, 4 + 2, 4 + 3, 4 + 3 + 5]


def test_soft_thinking_mixes_the_best_of_what_sampling_leaves() -> None:
    torch.manual_seed(1)
    table, logits = torch.randn(VOCAB, 6), torch.randn(3, VOCAB) * 2
    ids, w = filtered(logits)
    assert w.shape == (3, TOP_K)
    for row in range(3):
        p = torch.softmax(logits[row] / 0.6, dim=-1)
        order = p.argsort(descending=True)[:TOP_K]
        num = int((p[order].cumsum(0) - p[order] < 0.95).sum())
        kept = order[:num][p[order[:num]] >= 0.001 * p.max()][:TOP_N]
        want = (p[kept] / p[kept].sum()) @ table[kept]
        torch.testing.assert_close(Soft(table).inputs(logits)[row], want)
        assert set(ids[row][w[row] > 0].tolist()) >= set(kept.tolist())


def _with_entropy(sharpness: float) -> torch.Tensor:
    """Logits of one row; the sharper, the less entropy."""
    return sharpness * torch.linspace(0, 1, VOCAB)[None]


def test_swi_turns_on_entropy_and_stays_discrete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.policies.WINDOW", 3)
    table = torch.randn(VOCAB, 6)
    swi, soft = Swi(table, 7, 1), []
    for sharpness in (4.0, 3.0, 9.0, 1.0, 1.0, 1.0, 1.0, 2.0):
        fed = swi.inputs(_with_entropy(sharpness))
        soft.append(bool(swi.is_soft[0]))
        p = torch.softmax(_with_entropy(sharpness), dim=-1)
        if soft[-1]:
            torch.testing.assert_close(fed, p @ table)
        elif soft[-2]:
            torch.testing.assert_close(fed, 0.7 * (p @ table) + 0.3 * table[7])
        else:
            assert (table == fed).all(1).any(), "a token's own embedding"
    # Soft above its reference, discrete at once below it, soft again after three steps, and below.
    assert soft == [True, True, False, False, False, True, True, False]
    swi.start(0)
    swi.inputs(_with_entropy(9.0))
    assert swi.is_soft[0]


def test_slopes_are_powers() -> None:
    assert sweep.slope([1, 2, 4, 8], [3.0, 6.0, 12.0, 24.0]) == pytest.approx(1.0)
    assert sweep.slope([1, 4, 16], [5.0, 5.0, 5.0]) == pytest.approx(0.0)
    assert sweep.slope([1, 4], [1.0, 2.0]) == pytest.approx(0.5)


class _Engine:
    """Stands in for an engine: a step of an explicit request takes 1 ms, plus one for every 8.

    Those of other kinds than ours take three times as long, and a prompt takes a second.
    """

    started: ClassVar[list[tuple[str, str, Any]]] = []
    running: ClassVar[list[_Engine]] = []
    asked: ClassVar[list[tuple[str, str, list[int], Any]]] = []
    num_mixed: ClassVar[int] = 32

    def __init__(self, kind: str, model: str, **options: Any) -> None:
        self.kind, self.pid = kind, os.getpid()
        self._is_theirs = kind not in ("sottovoce", "http") or options.get("server") == "llama.cpp"
        self.started.append((kind, model, options))
        self.running.append(self)

    def measure(self, prompt: str, lengths: list[int], sampling: Any) -> Done:
        self.asked.append(("theirs" if self._is_theirs else "ours", prompt, lengths, sampling))
        top_n = sampling.get("extra_args", {}).get("routing", {}).get("top_n", 0)
        step = 1e-3 * (1 + len(lengths) / 8) * (1 + top_n / 100) * (3 if self._is_theirs else 1)
        ends = [1 + step * (n - 1) for n in lengths]
        return Done(max(ends), latencies=ends)

    def run(self, prompt: str, lengths: list[int], sampling: Any) -> float:
        return self.measure(prompt, lengths, sampling).seconds

    def ask(self, prompts: list[str], sampling: Any) -> tuple[float, list[Answer]]:
        assert sampling["extra_args"]["include_reasoning_trace"]
        top_n = sampling["extra_args"]["routing"]["top_n"]
        return 1.0, [Answer([1], 0, [min(top_n, self.num_mixed)] * 4)]

    def close(self) -> None:
        self.running.remove(self)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are none, and rows that nobody keeps."""
    for module in (peers, sweep):
        monkeypatch.setattr(module, "Engine", _Engine)
        monkeypatch.setattr(module, "smollm2_path", lambda: Path("smollm2_path"))
        for name in ("report", "append"):
            monkeypatch.setattr(module, name, lambda *row, **also: None)
    monkeypatch.setattr(peers, "smollm2_gguf", lambda: Path("smollm2_gguf"))
    monkeypatch.setattr(peers, "REST_S", 0.0)
    for seen in (_Engine.started, _Engine.running, _Engine.asked):
        seen.clear()


def test_a_curve_has_a_row_a_point_and_its_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []

    def keep(name: str, about: Any, *row: Any, **also: Any) -> None:
        rows.append((about.get("value", about.get("of")), row[-1], also))

    monkeypatch.setattr(sweep, "report", keep)
    monkeypatch.setattr(sweep, "append", keep)
    sweep.bench("top_n", [1, 10], "float32", 8, 2)
    (one, first, told), (ten, second, _), (ratio, (power,), _), _, (explicit, (flat,), _) = rows
    assert (one, ten, ratio, explicit) == (1, 10, "ratio", "explicit step")
    assert told == {"terms": 1.0}
    # Seconds of a step, without the prompt's.
    assert first == [pytest.approx((2e-3 * 1.01, 2e-3))] * 2
    assert second == [pytest.approx((2e-3 * 1.1, 2e-3))] * 2
    assert power == pytest.approx(math.log(1.1 / 1.01) / math.log(10))
    assert flat == pytest.approx(0.0)
    assert not _Engine.running


def test_no_time_has_no_slope(capsys: pytest.CaptureFixture[str]) -> None:
    sweep._report_slope("batch", [1, 2], "ratio", [0.1, -0.1], "float32", 4)
    assert "take more --steps" in capsys.readouterr().out


def test_both_sides_of_top_n_are_sampled_alike_and_nothing_cuts_the_terms() -> None:
    sweep.bench("top_n", [32], "float32", 8, 1)
    asked = [sampling for *_, sampling in _Engine.asked]
    drawn = [{k: s[k] for k in ("temperature", "top_k", "top_p", "min_p")} for s in asked]
    assert drawn == [{"temperature": 2.0, "top_k": 32, "top_p": 1.0, "min_p": 0.0}] * 8
    assert sum("extra_args" in s for s in asked) == 4


def test_a_mixture_of_too_few_terms_is_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Engine, "num_mixed", 20)
    with pytest.raises(RuntimeError, match="top_n 32"):
        sweep.bench("top_n", [16, 32], "float32", 8, 1)
    assert not _Engine.running


@pytest.mark.parametrize("top_n", [1, 2, 4, 8, 16, 32])
def test_the_router_mixes_as_many_terms_as_the_axis_says(top_n: int) -> None:
    """The kernels' reference, on logits far apart, with what the axis samples with."""
    torch.manual_seed(0)
    logits = 2.5 * torch.randn(49152)
    logits[7] = logits.max() + 6

    def num_terms(sampling: dict[str, Any]) -> int:
        ints, floats = torch.zeros(1, NUM_INT_PARAMS).int(), torch.zeros(1, NUM_FLOAT_PARAMS)
        ints[0, IntParam.TOP_K], ints[0, IntParam.TOP_N] = sampling["top_k"], top_n
        ints[0, IntParam.VECTOR_ROW] = -1
        for name in ("TEMPERATURE", "TOP_P", "MIN_P"):
            floats[0, FloatParam[name]] = sampling[name.lower()]
        top = logits.topk(MAX_TOP_N).values
        mass = float(((logits - top[0]) / sampling["temperature"]).exp().sum())
        slots = Slots(ints, floats, torch.zeros(1, 1).int(), torch.zeros(1, 1).int())
        weights = mixture_weights(top, mass, slots, 0, torch.zeros(MAX_TOP_N, dtype=torch.bool))
        return int((weights > 0).sum())

    assert num_terms(sweep.latent(top_n)) == top_n
    assert num_terms(LATENT) == 1, "as users sample, one term takes all"


def test_a_context_grows_by_its_prompt() -> None:
    sweep.bench("context", [128, 512, 2048], "float32", 8, 1)
    lengths = {len(prompt.split()): None for _, prompt, *_ in _Engine.asked}
    assert list(lengths) == sorted(lengths)
    assert [later - sooner for sooner, later in itertools.pairwise(lengths)] == [384, 1536]


SIZES = ["--rounds", "1", "--requests", "3", "--steps", "16"]


def test_every_peer_gets_the_same_load(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(peers, "report", lambda _, about, *row: rows.append((about, *row)))
    monkeypatch.setattr(peers, "append", lambda _, about, *row, **__: rows.append((about, *row)))
    peers.main([*peers.PEERS, *SIZES])
    assert [(kind, model) for kind, model, _ in _Engine.started] == [
        ("sottovoce", "smollm2_path"), ("v1", "smollm2_path"), ("mrv2", "smollm2_path"),
        ("llama.cpp", "smollm2_gguf"), ("http", "smollm2_path"), ("http", "smollm2_gguf"),
        *[("transformers", "smollm2_path")] * 6,
    ]  # fmt: skip
    assert not _Engine.running
    sides = {side: [a[1:3] for a in _Engine.asked if a[0] == side] for side in ("ours", "theirs")}
    assert sorted(sides["ours"]) == sorted(sides["theirs"])
    by = {metric: [row for row in rows if row[1] == metric] for _, metric, *_ in rows}
    assert list(by) == ["throughput over it", "latency p50 over its", "latency p95 over its",
                        "peak memory"]  # fmt: skip
    assert all(len(found) == 10 * 2 for found in by.values()), "peers, loads"
    for _, _, pairs in by["throughput over it"]:
        assert all(theirs > ours > 1 for theirs, ours in pairs)
    for _, _, pairs in by["latency p50 over its"] + by["latency p95 over its"]:
        assert all(1 < ours < theirs for ours, theirs in pairs)
    assert all(mib > 1 for *_, (mib,) in by["peak memory"])
    assert len({json.dumps(about) for about, *_ in rows}) == 10 * 2


def test_loads_are_equal_or_spread() -> None:
    equal, spread = peers.loads(32, 64).values()
    assert equal == [64] * 32
    assert min(spread) >= 4
    assert 64 < max(spread) <= 256


def test_a_failure_leaves_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Engine, "measure", lambda *_: Done(1.0, latencies=[1.0]))
    with pytest.raises(RuntimeError, match="1 requests of 3 ended"):
        peers.main(["v1", *SIZES])
    assert len(_Engine.started) == 2
    assert not _Engine.running


def test_the_peak_is_that_of_the_whole_family() -> None:
    """A child that holds 64 MiB for a while is seen, and not twice what it shares."""
    code = "import time; x = bytearray(64 << 20); x[::4096] = b'1' * (len(x) // 4096)"
    before = resident_bytes(os.getpid())
    with Peak(os.getpid()) as peak:
        subprocess.run([sys.executable, "-c", f"{code}; time.sleep(1.2)"], check=True)
    assert 64 < peak.mib - before / 2**20 < 128
    assert peak.mib < 1.2 * psutil.Process().memory_info().rss / 2**20 + 128


def test_llama_cpp_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_LLAMA", tmp_path / "python")
    with pytest.raises(RuntimeError, match="make bench-peers"):
        engines.Engine("llama.cpp", "m")


class _Context:
    """Stands in for llama.cpp's context: remembers which positions each sequence holds."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.sizes: list[int] = []

    def memory_seq_rm(self, seq: int, start: int, end: int) -> None:
        self.held[seq] = 0

    def decode(self, batch: list[tuple[int, int, list[int], bool]]) -> None:
        self.sizes.append(len(batch))
        for _, position, (seq,), _ in batch:
            assert position == self.held[seq], "no gap, nothing twice"
            self.held[seq] += 1


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The worker's module, without the library that it drives."""
    package, library = ModuleType("cyllama"), ModuleType("cyllama.llama")
    library.llama_cpp = ModuleType("cyllama.llama.llama_cpp")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cyllama", package)
    monkeypatch.setitem(sys.modules, "cyllama.llama", library)
    from benchmarks.peers import llama_cpp

    yield llama_cpp
    del sys.modules["benchmarks.peers.llama_cpp"]


def test_llama_cpp_refills_its_sequences(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Batch(list[Any]):
        n_tokens = property(len)

        def add(self, *entry: Any) -> None:
            self.append(entry)

    class Sampler:
        def sample(self, context: Any, at: int) -> int:
            assert runner._batch[at][3], "a place with logits"
            return 1

    monkeypatch.setattr(llama, "_sampler", lambda sampling, seed: Sampler())
    vocabulary = type("V", (), {"tokenize": staticmethod(lambda *_, **__: [1, 2, 3])})
    runner = llama.Llama.__new__(llama.Llama)
    runner._model = type("M", (), {"get_vocab": staticmethod(lambda: vocabulary)})
    runner._context, runner._batch, runner._num_seqs = _Context(), Batch(), 2
    clock = runner._context.sizes
    monkeypatch.setattr(llama.time, "perf_counter", lambda: 10 + len(clock))
    # Steps at whose end a request has ended; the second first.
    assert runner.run(PROMPT, [4, 2, 3, 1], {"temperature": 0.0}) == [2, 4, 5, 5]
    # Two prompts of three tokens; a step of both; a step beside a prompt; and so on.
    assert runner._context.sizes == [6, 2, 4, 2, 4]
