"""Top-k and top-p masks over logits, without sorting the vocabulary.

Only the largest logits decide either mask. They are collected with the help of chunk maxima: the
k-th largest chunk maximum bounds the k-th largest logit from below.
"""

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Float32, flat
from sottovoce_kernels.engine.jit import njit
from sottovoce_kernels.engine.rows import (
    CHUNK,
    fast_exp,
    fill_chunk_maxima,
    num_chunks,
    sum_exp,
)

_NEGATIVE_INFINITY = np.float32(-np.inf)
_LOWEST = np.finfo(np.float32).min
# Beyond this many survivors numpy's vectorised sort of the whole row beats sorting them in numba.
_MAX_SURVIVORS = 2048
_GAPS = np.array([701, 301, 132, 57, 23, 10, 4, 1])  # Ciura 2001
# How far below the maximum top-p looks for its mass, in nats.
_DEPTHS = np.array([2.0, 4.0, 6.0, 8.0, 11.0, 16.0, 87.0], dtype=np.float32)


@njit()
def _collect(row: Array, maxima: Array, threshold: Float32, found: Array) -> int:
    """Store the logits not below a threshold; -1 if they do not fit."""
    count = 0
    for chunk in range(num_chunks(row.size)):
        if not maxima[chunk] >= threshold:
            continue
        end = min((chunk + 1) * CHUNK, row.size)
        if count + CHUNK > found.size:
            return -1
        for token in range(chunk * CHUNK, end):
            found[count] = row[token]
            count += row[token] >= threshold
    return count


@njit()
def _kth_largest(values: Array, k: int) -> Float32:
    """Select the k-th largest value by partitioning a copy."""
    values = values.copy()
    low, high, target = 0, values.size - 1, values.size - k
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@njit()
def _sort(values: Array) -> None:
    """Sort a few values in place (Shell 1959); numba takes ten seconds to compile `np.sort`."""
    for gap in _GAPS:
        for i in range(gap, values.size):
            value, j = values[i], i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value


@njit()
def _survive_top_k(row: Array, maxima: Array, k: int, found: Array) -> int:
    """Store the k largest logits and those equal to the k-th, ascending; -1 if they do not fit."""
    bound = _kth_largest(maxima, k)
    # Fewer than k logits may be finite, as after a grammar's mask: then all of those survive.
    count = _collect(row, maxima, bound if bound > _LOWEST else _LOWEST, found)
    if count < 0:
        return count
    _sort(found[:count])
    first = max(count - k, 0)
    while first > 0 and found[first - 1] == found[count - k]:
        first -= 1
    for i in range(count - first):
        found[i] = found[first + i]
    return count - first


@njit()
def _survive_top_p(
    row: Array, maxima: Array, highest: Float32, p: float, mass: float, found: Array
) -> int:
    """Store enough of the largest, ascending, to hold p of the mass; -1 if they do not fit."""
    for depth in _DEPTHS:
        count = _collect(row, maxima, highest - depth, found)
        if count < 0:
            return count
        held = 0.0
        for i in range(count):
            held += fast_exp(found[i] - highest)
        if held >= p * mass:
            _sort(found[:count])
            return count
    return -1


@njit()
def _first_in_top_p(survivors: Array, p: float, mass: float) -> int:
    """Where the tokens begin, in ascending order, that have less than p of the mass above them."""
    above = 0.0
    highest = survivors[-1]
    for i in range(survivors.size - 1, -1, -1):
        if i < survivors.size - 1 and above >= p * mass:
            return i + 1
        above += fast_exp(survivors[i] - highest)
    return 0


@njit()
def _mask(row: Array, threshold: Float32, num_dropped: int) -> None:
    """Mask what is below a threshold, and the first few of what equals it."""
    for token in range(row.size):
        row[token] = _NEGATIVE_INFINITY if row[token] < threshold else row[token]
    for token in range(row.size):
        if num_dropped == 0:
            return
        if row[token] == threshold:
            row[token] = _NEGATIVE_INFINITY
            num_dropped -= 1


@njit()
def _mask_row(row: Array, k: int, p: float, maxima: Array, found: Array) -> bool:
    """Mask one row; False, and nothing done, if too many tokens survive to sort them here."""
    highest = fill_chunk_maxima(row, maxima)
    if not highest > _NEGATIVE_INFINITY:
        return True
    if k < row.size:
        if k > num_chunks(row.size):
            return False
        count = _survive_top_k(row, maxima, k, found)
        mass = sum_exp(found[: max(count, 0)], highest)
    else:
        mass = sum_exp(row, highest)
        count = _survive_top_p(row, maxima, highest, p, mass, found)
    if count <= 0:
        return False
    survivors = found[:count]
    first = _first_in_top_p(survivors, p, mass) if p < 1.0 else 0
    threshold = survivors[first]
    num_dropped = 0
    while num_dropped < first and survivors[first - 1 - num_dropped] == threshold:
        num_dropped += 1
    _mask(row, threshold, num_dropped)
    return True


@njit()
def _mask_rows(
    logits: Array,
    stride: int,
    vocab_size: int,
    ks: Array,
    has_k: bool,
    ps: Array,
    has_p: bool,
    refused: Array,
) -> int:
    maxima = np.empty(num_chunks(vocab_size), dtype=np.float32)
    found = np.empty(_MAX_SURVIVORS, dtype=np.float32)
    num_refused = 0
    for i in range(refused.size):
        k = max(ks[i], 1) if has_k else vocab_size
        p = np.float64(ps[i]) if has_p else 1.0
        if k >= vocab_size and p >= 1.0:
            continue
        row = logits[i * stride : i * stride + vocab_size]
        if not _mask_row(row, k, p, maxima, found):
            refused[num_refused] = i
            num_refused += 1
    return num_refused


def _mask_by_sorting(row: Array, k: int, p: float) -> None:
    if np.isnan(row).any():
        return
    survivors = row
    if k < row.size:
        survivors = row[row >= np.partition(row, row.size - k)[row.size - k]]
    survivors = np.sort(survivors)
    first = 0
    if p < 1.0:
        above = np.cumsum(np.exp(survivors[::-1] - survivors[-1]), dtype=np.float64)
        first = max(0, survivors.size - 1 - int(np.searchsorted(above, p * above[-1])))
    threshold = survivors[first]
    num_dropped = first - int(np.searchsorted(survivors, threshold))
    _mask(row, threshold, max(num_dropped, 0))


def apply_top_k_top_p(
    logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None
) -> torch.Tensor:
    """Mask logits `[B, V]` (float32: in place) to each row's top k, then to its nucleus of mass p.

    Logits equal to the k-th largest are all kept; at the edge of the nucleus equal logits are
    dropped from the lowest id. At least one token is kept. k >= V and p >= 1 mean no limit. A row
    with NaNs is left as it is, or is masked as if they were -inf.
    """
    if k is None and p is None:
        return logits
    if logits.dtype != torch.float32:
        logits = logits.float()
    num_rows, vocab_size = logits.shape
    rows, stride = flat(logits), logits.stride(0)
    ks = np.zeros(1, dtype=np.int32) if k is None else flat(k)
    ps = np.zeros(1, dtype=np.float32) if p is None else flat(p)
    refused = np.empty(num_rows, dtype=np.int64)
    num_refused = _mask_rows(
        rows, stride, vocab_size, ks, k is not None, ps, p is not None, refused
    )
    for i in refused[:num_refused].tolist():
        row = rows[i * stride : i * stride + vocab_size]
        _mask_by_sorting(
            row,
            vocab_size if k is None else int(ks[i]),
            1.0 if p is None else float(ps[i]),
        )
    return logits
