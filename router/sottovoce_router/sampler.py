"""`RoutedSampler`: vLLM's sampler; confidence before the temperature, a decision after it."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from vllm.sampling_params import SamplingParams
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.sample.output import SamplerOutput
from vllm.v1.worker.gpu.sample.sampler import Sampler

from sottovoce_kernels import (
    Confidence,
    LedgerTensors,
    Markers,
    Record,
    confidence,
    decide,
    mix_full,
)

from . import record as records
from .embedding import EmbeddingTable
from .params import stamp_of
from .slots import SlotTable


class _ReadAfterBudget:
    """vLLM's thinking budget, then a look at the logits: forced ends and penalties count."""

    def __init__(self, budget: Any, read: Any) -> None:
        self._budget, self._read = budget, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._budget, name)

    def apply(self, logits: torch.Tensor, ctx: Any) -> None:
        """Apply the budget, then read."""
        self._budget.apply(logits, ctx)
        self._read(logits, ctx)


class RoutedSampler(Sampler):  # type: ignore[misc] # vllm is Any to mypy
    """Takes over an already built sampler; rows without a policy pass through untouched."""

    def __init__(
        self,
        base: Sampler,
        slots: SlotTable,
        ledger: LedgerTensors,
        markers: Markers,
        table: EmbeddingTable,
    ) -> None:
        self.__dict__.update(base.__dict__)
        self._table = table
        self._slots, self._ledger, self._markers = slots, ledger, markers
        self._confidence: Confidence | None = None
        self._record: Record | None = None
        self.thinking_budget_state = _ReadAfterBudget(base.thinking_budget_state, self._read)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> None:
        """Register sampling parameters; logprobs that nobody asked for are not computed."""
        stamp = stamp_of(sampling_params)
        if stamp is not None and stamp["hides_logprobs"]:
            sampling_params = copy(sampling_params)
            sampling_params.logprobs = None
        super().add_request(req_idx, sampling_params)
        if self._slots.has_policy[req_idx]:
            # Otherwise greedy rows skip the pipeline in which the confidence is read.
            self.needs_logits_processing[req_idx] = True

    def _read(self, logits: torch.Tensor, ctx: Any) -> None:
        if self._slots.has_policy[ctx.idx_mapping_np].any():
            self._confidence = confidence(logits, ctx.expanded_idx_mapping, self._slots.tensors)
        mixes_all = self._slots.has_vectors[ctx.idx_mapping_np]
        if mixes_all.any():
            rows = async_tensor_h2d(
                np.flatnonzero(mixes_all), dtype=torch.int64, device=logits.device
            )
            table = self._table
            mix_full(
                logits, rows, ctx.expanded_idx_mapping, ctx.pos, self.req_states.prefill_len.gpu,
                self._slots.tensors, self._ledger, table.weight, self._markers.special,
                table.scale, table.vocab_start,
            )  # fmt: skip

    def sample(
        self,
        logits: torch.Tensor,
        expanded_idx_mapping: torch.Tensor,
        idx_mapping: torch.Tensor,
        idx_mapping_np: np.ndarray[Any, Any],
        pos: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample as vLLM does, then let every thinking row decide what it records and feeds."""
        sampled, processed = super().sample(
            logits, expanded_idx_mapping, idx_mapping, idx_mapping_np, pos, *args, **kwargs
        )
        self._amend(sampled)
        record = None
        if self._confidence is not None:
            trace_width = int(self._slots.trace_top_n[idx_mapping_np].max())
            record = Record.empty(logits.shape[0], trace_width, logits.device)
            decide(
                self._confidence, sampled, expanded_idx_mapping, pos,
                self.req_states.prefill_len.gpu, self.sampling_states.seeds.gpu,
                self.req_states.all_token_ids.gpu, self._slots.tensors, self._ledger,
                self._markers, record,
            )  # fmt: skip
            self._confidence = None
        self._record = self._complete(record, logits)
        return sampled, processed

    def _amend(self, sampled: torch.Tensor) -> None:
        """Subclasses overwrite what rows record before they decide."""

    def _complete(self, record: Record | None, logits: torch.Tensor) -> Record | None:
        """Subclasses add to the record of a step with these logits, or make one."""
        return record

    def __call__(self, logits: torch.Tensor, input_batch: InputBatch) -> SamplerOutput:
        """As the base, with the routing record appended to the log-probability rows."""
        output = super().__call__(logits, input_batch)
        if self._record is not None:
            ranks = output.sampled_token_ids[:, 0]
            output.logprobs_tensors = records.attach(output.logprobs_tensors, self._record, ranks)
        return output
