"""The ledger: every soft input of every live request, kept until the request ends.

A preempted request loses its slot and its KV cache but not its row, so its prefill is replayed with
the inputs it had. Rows are handed out by request id; sizes are fixed at start-up.
"""

from __future__ import annotations

import torch

from sottovoce_kernels import LedgerTensors
from sottovoce_kernels.layout import NUM_STATE

from .spans import Spans


class Rows:
    """Rows handed out by request id."""

    def __init__(self, num_rows: int) -> None:
        self._free: list[int] = []
        self._rows: dict[str, int] = {}
        self.grow(num_rows)

    def __contains__(self, req_id: str) -> bool:
        return req_id in self._rows

    def row_of(self, req_id: str) -> int | None:
        """The request's row, taking a free one the first time; None when there is none left."""
        if req_id not in self._rows:
            if not self._free:
                return None
            self._rows[req_id] = self._free.pop()
        return self._rows[req_id]

    def grow(self, num_rows: int) -> None:
        """Add free rows behind those there are."""
        first = len(self._free) + len(self._rows)
        self._free.extend(range(first + num_rows - 1, first - 1, -1))

    def release(self, req_id: str) -> None:
        """Give back the row of a request that has ended, if it has one."""
        row = self._rows.pop(req_id, None)
        if row is not None:
            self._free.append(row)


class Ledger(Rows):
    """Rows of soft inputs, owned by request ids."""

    def __init__(
        self,
        num_rows: int,
        num_positions: int,
        num_entries: int,
        device: torch.device,
        num_vectors: int = 0,
        hidden_size: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Reserve it.

        Args:
            num_vectors: positions of mixtures of the whole vocabulary, of `dtype`, for all requests
                together; the vectors are as they are fed, so that a replay feeds the same.
        """
        super().__init__(num_rows)

        # Uninitialised, so that a CPU commits only the pages it comes to use: a position is
        # written by the step that makes it before anything reads it.
        def empty(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self.tensors = LedgerTensors(
            ids=empty(num_rows, num_entries),
            weights=empty(num_rows, num_entries, dtype=torch.float32),
            counts=empty(num_rows, num_positions),
            state=empty(num_rows, num_positions, NUM_STATE),
            vectors=empty(num_vectors + 1, hidden_size, dtype=dtype),
        )
        self._spans = Spans(num_vectors)

    @property
    def num_bytes(self) -> int:
        """Bytes reserved."""
        t = self.tensors
        parts = (t.ids, t.weights, t.counts, t.state, t.vectors)
        return sum(x.numel() * x.element_size() for x in parts)

    def vectors_of(self, req_id: str, num_positions: int) -> int | None:
        """The first of the request's vectors, one a generated position; None without room."""
        return self._spans.take(req_id, num_positions)

    def release(self, req_id: str) -> None:
        """Give back what a request holds that has ended."""
        self._spans.release(req_id)
        super().release(req_id)
