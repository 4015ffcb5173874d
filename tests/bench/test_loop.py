"""The plain loop: that it computes what it says, whatever its rows are refilled with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
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
    ends = loop.run(PROMPT, [1, 5, 3, 4, 6], 2)
    assert steps == [2] * 4 + [2] * 3 + [1] * 5
    # A request ends with its own last token, and its batch with the longest.
    assert ends == [0, 4, 4 + 2, 4 + 3, 4 + 3 + 5]


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
