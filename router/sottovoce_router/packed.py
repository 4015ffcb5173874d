"""A batch's records where nobody asked for log-probabilities: as bytes, a slice of them for a request.

vLLM's messages carry bytes as they are, but take an array apart and together again, three of a
request and step: nearly three times the processor time (`make bench-overheads ARGS=message`).
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np
from vllm.v1.outputs import LogprobsLists, LogprobsTensors

_WIDTH_BYTES = 2


class RecordTensors(LogprobsTensors):  # type: ignore[misc]
    """Rows that hold a record alone."""

    def to_cpu_nonblocking(self) -> RecordTensors:
        """As the base, of this class."""
        return RecordTensors(*super().to_cpu_nonblocking())

    def tolists(self, cu_num_generated_tokens: list[int] | None = None) -> LogprobsLists:
        """The base's lists, which give each request its part as bytes."""
        return RecordLists(*super().tolists(cu_num_generated_tokens))


class RecordLists(LogprobsLists):  # type: ignore[misc]
    """Records of a batch, ids int64 [n, W] and values float32 [n, W]."""

    _packed: bytes | None = None

    def slice_request(self, req_idx: int, num_positions: int) -> LogprobsLists:
        """A request's rows in place of its arrays: the width W, then the ids and values of each."""
        if self._packed is None:
            ids, values = (a.view(np.uint8) for a in (self.logprob_token_ids, self.logprobs))
            self._packed = np.hstack([ids, values]).tobytes()
        width = self.logprob_token_ids.shape[1]
        size = _row(width).size
        if self.cu_num_generated_tokens is not None:
            req_idx = self.cu_num_generated_tokens[req_idx]
        part = self._packed[req_idx * size : (req_idx + num_positions) * size]
        return LogprobsLists(width.to_bytes(_WIDTH_BYTES, "little") + part, b"", b"")


@lru_cache
def _row(width: int) -> Struct:
    return Struct(f"={width}q{width}f")


def is_packed(lists: LogprobsLists) -> bool:
    """Whether they are a request's part of `RecordLists`, which has no columns."""
    return getattr(lists.logprob_token_ids, "ndim", 1) == 1


def unpack(lists: LogprobsLists) -> list[Any]:
    """The rows of a request's part: ids and values of each."""
    data = bytes(lists.logprob_token_ids)
    width = int.from_bytes(data[:_WIDTH_BYTES], "little")
    cells = _row(width).iter_unpack(data[_WIDTH_BYTES:])
    return [(row[:width], row[width:]) for row in cells]
