"""`mix` on the CPU: numba finds the batch's soft tokens, torch gathers and sums their rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import IntParam, Policy

_NONE, _POLICY = int(Policy.NONE), int(IntParam.POLICY)
_VECTOR = int(IntParam.VECTOR_ROW)
_ROW, _WIDTH, _PROMPT = int(IntParam.LEDGER_ROW), int(IntParam.WIDTH), int(IntParam.PROMPT_LEN)


@njit()
def find_soft(
    slot_ids: NDArray[np.int64],
    starts: NDArray[np.int32],
    positions: NDArray[np.int64],
    ints: NDArray[np.int32],
    ids: NDArray[np.int32],
    weights: NDArray[np.float32],
    counts: NDArray[np.int32],
    vocab_start: int,
    vocab_rows: int,
    hits: NDArray[np.int64],
    hit_ids: NDArray[np.int64],
    hit_weights: NDArray[np.float32],
    hit_vectors: NDArray[np.int64],
    hit_shares: NDArray[np.float32],
) -> tuple[int, int, int]:
    """List the soft tokens of a batch with their components, as rows of this vocabulary shard.

    Padding, and a row of another shard, has weight 0. A mixture of the whole vocabulary has its
    vector and that one's share, any other -1. Returns how many soft tokens there are, the largest
    number of components, and the number of vectors.
    """
    num_hits, widest, num_vectors = 0, 0, 0
    for b in range(slot_ids.shape[0]):
        p = ints[slot_ids[b]]
        if p[_POLICY] == _NONE:
            continue
        row, n = p[_ROW], p[_WIDTH]
        # A request's positions are consecutive, and its prompt holds no soft token.
        first = starts[b] + max(p[_PROMPT] - positions[starts[b]], 0)
        for t in range(first, starts[b + 1]):
            index = positions[t] - p[_PROMPT]
            count = abs(counts[row, index]) if index >= 0 else 0
            if count == 0:
                continue
            hit_vectors[num_hits] = -1
            if counts[row, index] < 0:
                hit_vectors[num_hits] = p[_VECTOR] + index
                hit_shares[num_hits] = 1 - weights[row, index * n]
                num_vectors += 1
            for j in range(hit_ids.shape[1]):
                local = ids[row, index * n + j] - vocab_start if j < count else -1
                inside = 0 <= local < vocab_rows
                hit_ids[num_hits, j] = local if inside else 0
                hit_weights[num_hits, j] = weights[row, index * n + j] if inside else 0.0
            hits[num_hits] = t
            num_hits += 1
            widest = max(widest, count)
    return num_hits, widest, num_vectors
