"""The peers: that a plain loop computes what it says, whatever its rows are refilled with; the curves."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from benchmarks import engine as engines
from benchmarks.peers import __main__ as peers
from benchmarks.peers import sweep
from benchmarks.peers.loop import Loop
from benchmarks.peers.policies import TOP_K, TOP_N, Explicit, Soft, Swi, filtered
from transformers import LlamaConfig, LlamaForCausalLM

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
    assert loop.run(PROMPT, lengths, 2, refills=True) > 0
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
    loop.run(PROMPT, [2, 5, 3, 4, 6], 2)
    assert steps == [2] * 4 + [2] * 3 + [1] * 5


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

    Those of other kinds than ours take three times as long.
    """

    started: ClassVar[list[tuple[str, str]]] = []
    asked: ClassVar[list[tuple[str, str, list[int], Any]]] = []

    def __init__(self, kind: str, model: str, **options: Any) -> None:
        self._kind = kind
        self.started.append((kind, model))

    def run(self, prompt: str, lengths: list[int], sampling: Any) -> float:
        self.asked.append((self._kind, prompt, lengths, sampling))
        seconds = 1e-3 * max(lengths) * (1 + len(lengths) / 8)
        top_n: int = sampling.get("extra_args", {}).get("routing", {}).get("top_n", 0)
        return seconds * (1 + top_n / 100) * (1 if self._kind == "sottovoce" else 3)

    def close(self) -> None: ...


def test_a_curve_has_a_row_a_point_and_its_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(sweep, "Engine", _Engine)
    monkeypatch.setattr(sweep, "smollm2_path", lambda: Path("m"))
    monkeypatch.setattr(sweep, "report", lambda *row: rows.append((row[1]["value"], row[3])))
    monkeypatch.setattr(sweep, "append", lambda *row, **_: rows.append((row[1]["of"], row[4])))
    sweep.bench("top_n", [1, 10], "float32", 8, 2)
    (one, first), (ten, second), (ratio, (power,)), _, (explicit, (flat,)) = rows
    assert (one, ten, ratio, explicit) == (1, 10, "ratio", "explicit step")
    assert [a / b for a, b in first] == pytest.approx([1.01] * 2)
    assert [a / b for a, b in second] == pytest.approx([1.1] * 2)
    assert power == pytest.approx(math.log(1.1 / 1.01) / math.log(10))
    assert flat == pytest.approx(0.0)


def test_a_context_grows_by_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "Engine", _Engine)
    monkeypatch.setattr(sweep, "smollm2_path", lambda: Path("m"))
    for name in ("report", "append"):
        monkeypatch.setattr(sweep, name, lambda *row, **also: None)
    _Engine.asked.clear()
    sweep.bench("context", [128, 512, 2048], "float32", 8, 1)
    lengths = {len(prompt.split()): None for _, prompt, *_ in _Engine.asked}
    assert list(lengths) == sorted(lengths)
    assert [later - sooner for sooner, later in itertools.pairwise(lengths)] == [384, 1536]


def test_every_peer_gets_the_same_load(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(peers, "Engine", _Engine)
    for name in ("smollm2_path", "smollm2_gguf"):
        monkeypatch.setattr(peers, name, lambda name=name: Path(name))
    monkeypatch.setattr(peers, "REST_S", 0.0)
    monkeypatch.setattr(peers, "report", lambda *row: rows.append(row))
    _Engine.started.clear()
    _Engine.asked.clear()
    sizes = ["--rounds", "1", "--requests", "3", "--steps", "16"]
    peers.main(["v1", "mrv2", "llama.cpp", *sizes])
    assert _Engine.started == [
        ("sottovoce", "smollm2_path"), ("v1", "smollm2_path"), ("mrv2", "smollm2_path"),
        ("llama.cpp", "smollm2_gguf"),
    ]  # fmt: skip
    for kind in ("v1", "mrv2", "llama.cpp"):
        theirs = [asked[1:] for asked in _Engine.asked if asked[0] == kind]
        assert [asked[1:] for asked in _Engine.asked if asked[0] == "sottovoce"].count(
            theirs[0]
        ) == 3 * theirs.count(theirs[0])
    assert {round(a / b, 9) for row in rows for a, b in row[3]} == {3.0}, "theirs over ours"
    assert [row[1]["peer"] for row in rows[::2]] == ["v1", "mrv2", "llama.cpp, Q4_1"]
    assert {row[2].split(", ")[1] for row in rows} == {"equal lengths", "spread lengths"}
    equal, spread = peers.loads(32, 64).values()
    assert equal == [64] * 32
    assert min(spread) >= 4
    assert 64 < max(spread) <= 256


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
    assert runner.run(PROMPT, [4, 2, 3, 1], {"temperature": 0.0}) == 10
    # Two prompts of three tokens; a step of both; a step beside a prompt; and so on.
    assert runner._context.sizes == [6, 2, 4, 2, 4]
