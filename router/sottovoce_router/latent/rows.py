"""A batch's rows as arrays on the host. A row is one position of one request."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.input_batch import InputBatch

Indices = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def uploaded(indices: Indices, device: torch.device) -> torch.Tensor:
    """int64, of the same shape, on the device, without waiting for it."""
    found: torch.Tensor = async_tensor_h2d(indices, dtype=torch.int64, device=device)
    return found


def rows_of(starts: Indices, counts: Indices) -> Indices:
    """The rows of requests that begin at `starts` and have `counts` rows each."""
    ends = counts.cumsum()
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    found: Indices = np.repeat(starts, counts).astype(np.int64) + within
    return found


class BatchRows:
    """The rows of some of a batch's requests, one array a property, in the order of the batch."""

    def __init__(self, batch: InputBatch, requests: Indices, prompt_len: Indices) -> None:
        """Lay them out.

        Args:
            requests: of the batch.
            prompt_len: by slot.
        """
        starts, self.counts = (
            batch.query_start_loc_np[requests],
            batch.num_scheduled_tokens[requests],
        )
        self.all = rows_of(starts, self.counts)
        self.slots = np.repeat(batch.idx_mapping_np[requests], self.counts)
        computed = np.repeat(batch.num_computed_tokens_np[requests], self.counts)
        position = computed + self.all - np.repeat(starts, self.counts)
        # Index among the generated; below 0: prompt. And that of the request's first row here.
        self.generated = position - prompt_len[self.slots]
        self.first = np.maximum(computed - prompt_len[self.slots], 0)
