"""Attention metadata for some of a batch's requests: those of one set of weights, or that skip nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from vllm.forward_context import get_forward_context, override_forward_context
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.input_batch import InputBatch

from ..latent.rows import Indices, uploaded

Build = Callable[[InputBatch, tuple[torch.Tensor, ...], torch.Tensor], dict[str, Any]]
Named = Callable[[torch.Tensor], dict[str, torch.Tensor]]


def _starts(batch: InputBatch, counts: Indices) -> tuple[Any, torch.Tensor]:
    """Where requests with so many rows each begin, int32 [n + 1], on the host and on the device."""
    n = len(counts)
    if batch.num_tokens == batch.num_reqs:  # a row each, so the first of any n begin alike
        return batch.query_start_loc_np[: n + 1], batch.query_start_loc[: n + 1]
    starts = np.zeros(n + 1, dtype=np.int32)
    counts.cumsum(out=starts[1:])
    device = batch.query_start_loc.device
    return starts, async_tensor_h2d(starts, dtype=torch.int32, device=device)


def _narrowed(
    batch: InputBatch, requests: Indices, index: torch.Tensor, rows: torch.Tensor
) -> InputBatch:
    """The part of a batch that attention metadata is built from, of some of its requests."""
    found, counts = copy.copy(batch), batch.num_scheduled_tokens[requests]
    starts, starts_on_device = _starts(batch, counts)
    found.num_reqs = found.num_reqs_after_padding = len(requests)
    found.num_tokens = found.num_tokens_after_padding = int(starts[-1])
    found.idx_mapping = batch.idx_mapping[index]
    found.idx_mapping_np = batch.idx_mapping_np[requests]
    found.num_scheduled_tokens = counts
    found.query_start_loc_np, found.query_start_loc = starts, starts_on_device
    found.seq_lens = batch.seq_lens[index]
    found.seq_lens_cpu_upper_bound = batch.seq_lens_cpu_upper_bound[torch.from_numpy(requests)]
    found.is_prefilling_np = batch.is_prefilling_np[requests]
    found.positions = batch.positions[rows]
    return found


@dataclass
class Attention:
    """What some requests attend with. Metadata is built once, when first needed.

    Not sooner: some backends keep one plan at a time.
    """

    build: Build
    named: Named  # slot mappings by layer
    batch: InputBatch
    block_tables: tuple[torch.Tensor, ...]  # of each KV cache group, [requests, blocks]
    slot_mappings: torch.Tensor  # [groups, rows]
    _parts: dict[bytes, Attention] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the batch is."""
        found: torch.device = self.slot_mappings.device
        return found

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        return self.build(self.batch, self.block_tables, self.slot_mappings)

    def of(self, requests: Indices, rows: torch.Tensor) -> Attention:
        """That of some requests, whose rows are `rows`; the same object for the same requests."""
        key = requests.tobytes()
        if key not in self._parts:
            has_row_each = self.batch.num_tokens == self.batch.num_reqs
            index = rows if has_row_each else uploaded(requests, rows.device)
            self._parts[key] = Attention(
                self.build,
                self.named,
                _narrowed(self.batch, requests, index, rows),
                tuple(table[index] for table in self.block_tables),
                self.slot_mappings[:, rows],
            )
        return self._parts[key]

    @contextmanager
    def entered(self, writes: bool = True) -> Iterator[None]:
        """Attention layers see these requests alone, and write keys and values if they are to."""
        context = copy.copy(get_forward_context())
        context.attn_metadata = self._metadata
        context.slot_mapping = self.named(self.slot_mappings) if writes else {}
        with override_forward_context(context):
            yield
