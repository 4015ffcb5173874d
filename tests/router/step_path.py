"""Runs the plugin's step path on tensors without memory; says its kernels and matrix products.

A process of its own, since vLLM patches torch when imported. vLLM's own sampler runs too; nothing
reaches a kernel, so what is shown is that no step waits for a value on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton
import triton.language as tl
from benchmarks.kernels.launches import recorded

from host_sync import forbidden
from products import counted
from scripts import say

META = torch.device("meta")
WHOLE = {"policy": "swi", "mix": "full"}
SLOTS, VOCAB, HIDDEN, CONTEXT = 8, 1000, 64, 256


class _UvaBuffer:
    """Host memory that the device sees under an address of its own."""

    def __init__(self, size: Any, dtype: torch.dtype) -> None:
        self.cpu = torch.zeros(size, dtype=dtype)
        self.np = self.cpu.numpy()

    def uva(self, n: int | None = None) -> torch.Tensor:
        return torch.empty_like(self.cpu[:n], device=META)


def _prepare_vllm() -> None:
    """Give vLLM the real Triton, whose launches are recorded, and buffers on the stand-in."""
    import vllm.config.vllm
    import vllm.triton_utils

    vllm.triton_utils.triton, vllm.triton_utils.tl = triton, tl
    vllm.triton_utils.HAS_TRITON = vllm.config.vllm.HAS_TRITON = True
    import vllm.v1.worker.gpu.buffer_utils as buffer_utils

    buffer_utils.UvaBuffer = _UvaBuffer


def _long(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)


def _int(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int32, device=META)


class Step:
    """A worker's routing state: a new, a resumed, a traced, an ordinary request, some of all tokens."""

    def __init__(self, num_whole: int = 1) -> None:
        from sottovoce_kernels import Markers
        from sottovoce_router.ledger import Ledger
        from sottovoce_router.markers import MarkerIds
        from sottovoce_router.slots import SlotTable

        self.marker_ids = MarkerIds((1,), (2,), (2,))
        special = torch.empty(VOCAB, dtype=torch.uint8, device=META)
        self.markers = Markers(_int(1), _int(1), _int(1), special, _int(6))
        self.ledger = Ledger(2 * SLOTS, CONTEXT, CONTEXT * 10, META, CONTEXT, HIDDEN)
        self.slots = SlotTable(SLOTS, self.ledger, META)
        self.rows = np.arange(4 + num_whole, dtype=np.int32)
        self.num_whole = num_whole
        assert self.slots.tensors.ints.is_meta

    def add_requests(self, add: Callable[[int, Any], None] = lambda slot, sampling: None) -> None:
        """Take the requests in; `add` hands the sampling parameters to a sampler."""
        from vllm import SamplingParams

        from sottovoce_router.params import parse

        self.ledger.row_of("resumed")
        requests: list[tuple[str, dict[str, Any], list[int]]] = [
            ("new", {"reasoning_mode": "routed"}, [5, 1]),
            ("resumed", {"reasoning_mode": "latent"}, [5, 1, 7, 8]),
            ("traced", {"include_reasoning_trace": True}, [5]),
            ("ordinary", {}, [5]),
        ]
        whole = {"reasoning_mode": "routed", "routing": WHOLE}
        requests += [(f"whole {i}", whole, [5, 1]) for i in range(self.num_whole)]
        for slot, (name, body, tokens) in enumerate(requests):
            sampling = SamplingParams(
                temperature=0.6 * (slot % 2), top_k=30, top_p=0.95, logprobs=2
            )
            params = parse(body)
            self.slots.add(slot, name, params, sampling, tokens, 2, self.marker_ids)
            add(slot, sampling)


def ops(num_rows: int) -> None:
    """`confidence`, `decide` and `mix` through their public functions."""
    from sottovoce_kernels import Record, confidence, decide, mix

    step = Step()
    ids, positions, table = _long(num_rows), _long(num_rows), step.slots.tensors
    logits = torch.empty(num_rows, VOCAB, dtype=torch.bfloat16, device=META)
    embeds = torch.empty(num_rows, HIDDEN, dtype=torch.bfloat16, device=META)
    rows = torch.empty(VOCAB, HIDDEN, dtype=torch.bfloat16, device=META)
    with forbidden():
        record = Record.empty(num_rows, 10, META)
        conf = confidence(logits, ids, table)
        decide(
            conf, _long(num_rows), ids, positions, _int(SLOTS), _long(SLOTS), _int(SLOTS, CONTEXT),
            table, step.ledger.tensors, step.markers, record,
        )  # fmt: skip
        mix(embeds, rows, ids, _int(num_rows + 1), positions, table, step.ledger.tensors)


def staged_writes() -> None:
    """`SlotTable.apply_staged_writes` for new and resumed requests."""
    step = Step()
    with forbidden():
        step.add_requests()
        step.slots.apply_staged_writes()
        step.slots.clear("new")
        step.slots.apply_staged_writes()


def overlay(world_size: int) -> None:
    """`RoutedMixin._overlay`, on one rank and on a shard."""
    import sottovoce_router.embedding as embedding
    from sottovoce_router.model_state import RoutedMixin

    step = Step()
    state: Any = object.__new__(RoutedMixin)
    state.slots, state.ledger = step.slots, step.ledger
    weight = torch.empty(VOCAB, HIDDEN, device=META)
    state.table = embedding.EmbeddingTable(None, weight, 0, 1.0, world_size)
    batch = SimpleNamespace(
        idx_mapping_np=step.rows, idx_mapping=_int(5), query_start_loc=_int(6), positions=_long(5)
    )
    embeds = torch.empty(5, HIDDEN, device=META)
    reduced = mock.patch.object(embedding, "tensor_model_parallel_all_reduce", lambda x: x)
    with reduced, forbidden():
        step.add_requests()
        step.slots.apply_staged_writes()
        state._overlay(embeds, batch)


def sampler(
    num_whole: int = 1, dtype: torch.dtype = torch.float32, rows: int = SLOTS, ended: int = 0
) -> None:
    """`RoutedSampler`, from `add_request` to its output, over vLLM's own sampler.

    Args:
        dtype: of the table; rows: of the batch, at most; ended: requests of all tokens that are over.
    """
    from vllm.v1.worker.gpu.sample.sampler import Sampler
    from vllm.v1.worker.gpu.states import RequestState

    from sottovoce_router.embedding import EmbeddingTable
    from sottovoce_router.sampler import RoutedSampler

    step = Step(num_whole)
    n = len(step.rows[:rows])
    states = RequestState(SLOTS, CONTEXT, 64, 0, VOCAB, META)
    config: Any = SimpleNamespace(reasoning_config=None)
    base = Sampler(config, SLOTS, VOCAB, META, states)
    table = EmbeddingTable(None, torch.empty(VOCAB, HIDDEN, dtype=dtype, device=META), 0, 1.0, 1)
    routed = RoutedSampler(base, step.slots, step.ledger.tensors, step.markers, table)
    batch: Any = SimpleNamespace(
        num_reqs=n, expanded_idx_mapping=_int(n), idx_mapping=_int(n), idx_mapping_np=step.rows[:n],
        cu_num_logits_np=np.arange(n + 1), cu_num_logits=_int(n + 1), expanded_local_pos=_int(n),
        positions=_long(n), logits_indices=_long(n), input_ids=_int(n), seq_lens=_int(n),
        seq_lens_cpu_upper_bound=torch.full((n,), 9, dtype=torch.int32),
    )  # fmt: skip
    with forbidden():
        step.add_requests(routed.add_request)
        for i in range(ended):
            step.slots.clear(f"whole {i}")
        step.slots.apply_staged_writes()
        routed.apply_staged_writes()
        assert step.slots.has_vectors.sum() == num_whole - ended
        output = routed(torch.empty(n, VOCAB, dtype=torch.bfloat16, device=META), batch)
    # The sampled token and two log-probabilities, then a record with ten alternatives.
    assert output.logprobs_tensors.logprob_token_ids.shape == (n, 3 + 13)


def _decoder() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    with META:
        return LlamaForCausalLM(config).bfloat16().requires_grad_(False).eval()


def latent_steps() -> None:
    """Latent steps from a new, a thinking and an ordinary request to what they record."""
    from sottovoce_router.latent.heads import Atp
    from sottovoce_router.latent.reader import NUM_TOKENS, StepReader
    from sottovoce_router.latent.sampler import LatentSampler
    from sottovoce_router.latent.slots import LatentSlots, Stamp
    from sottovoce_router.latent.state import LatentMixin

    state: Any = object.__new__(LatentMixin)
    state.slots, state._end = Step().slots, _long(1)
    state.latents = LatentSlots(SLOTS, 9, HIDDEN, torch.bfloat16, META)
    state._head = Atp(HIDDEN).to(META)
    state._head.stride = 2
    batch = SimpleNamespace(
        idx_mapping_np=np.arange(3), positions=_long(4),
        num_scheduled_tokens=np.array([2, 1, 1]), query_start_loc_np=np.array([0, 2, 3, 4]),
        num_computed_tokens_np=np.array([0, 5, 1]), prefill_len_np=np.array([2, 2, 2]),
    )  # fmt: skip
    sampler: Any = object.__new__(LatentSampler)
    reader = StepReader(_decoder(), _long(1), 5)
    with forbidden():
        for slot, stamp in enumerate((Stamp(9, 1), Stamp(9, 1, 7), None)):
            state.latents.add(slot, str(slot), stamp, 2, read_every=5)
        state.latents.apply_staged_writes()
        state._overlay(torch.empty(4, HIDDEN, dtype=torch.bfloat16, device=META), batch)
        state.think(torch.empty(4, HIDDEN, dtype=torch.bfloat16, device=META), _long(3))
        sampler._latents, sampler._end = state.latents, state._end
        sampler._plan = plan = state.take_latent_plan()
        sampler._reader = reader
        sampler._amend(_long(3))
        record = sampler._complete(None, torch.empty(3, VOCAB, device=META))
    assert record.ids.shape == record.values.shape == (3, 3 + NUM_TOKENS)
    assert [len(part.requests) for part in (plan.made, plan.given, plan.read)] == [2, 2, 1]
    assert len(plan.fed.rows) == 1


SCENES: dict[str, Callable[[], None]] = {
    "ops on one row": lambda: ops(1),
    "ops on many rows": lambda: ops(300),
    "staged writes": staged_writes,
    "overlay": lambda: overlay(1),
    "overlay of a shard": lambda: overlay(2),
    "sampler": sampler,
    "sampler of many that mix all": lambda: sampler(3),
    "sampler of a narrow table": lambda: sampler(3, torch.bfloat16),
    "sampler without the rows that mix all": lambda: sampler(rows=4),
    "sampler of ended requests": lambda: sampler(2, ended=2),
    "latent steps": latent_steps,
}


if __name__ == "__main__":
    _prepare_vllm()
    for name, scene in SCENES.items():
        with recorded() as launches, counted() as products:
            scene()
        say([name, [launch.name for launch in launches], products])
