"""The mixture that every policy starts from, on the CPU: the part of `decide` before the policy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import MAX_TOP_N, FloatParam, IntParam

_NEG_INF = np.float32(-np.inf)
_TOP_N, _TOP_K = int(IntParam.TOP_N), int(IntParam.TOP_K)
_NUM_STOPS, _VECTOR = int(IntParam.NUM_STOP_IDS), int(IntParam.VECTOR_ROW)
_T, _TOP_P, _MIN_P = int(FloatParam.TEMPERATURE), int(FloatParam.TOP_P), int(FloatParam.MIN_P)


@njit()
def is_banned(
    token: int, special: NDArray[np.uint8], stops: NDArray[np.int32], num_stops: int
) -> bool:
    """Whether a token is special, or a stop token of the slot."""
    if special[token] != 0:
        return True
    for i in range(num_stops):
        if stops[i] == token:
            return True
    return False


@njit()
def mixture(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    sum_mix: float,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    special: NDArray[np.uint8],
    stops: NDArray[np.int32],
    kept: NDArray[np.int32],
    w: NDArray[np.float32],
) -> int:
    """The filters on softmax(z / T), then renormalised; a special token stays only as the first.

    Of a mixture of the whole vocabulary they are a part, and not renormalised.
    Returns how many components there are; `kept` and `w` get them, the best first.
    """
    top_k = ints[_TOP_K] if ints[_TOP_K] > 0 else MAX_TOP_N
    limit, mass, total, n = min(top_k, ints[_TOP_N]), 0.0, 0.0, 0
    first = 1.0 / sum_mix
    for i in range(MAX_TOP_N):
        if i >= limit or top[i] == _NEG_INF:
            break
        p = math.exp((top[i] - top[0]) / floats[_T]) / sum_mix
        keep = mass < floats[_TOP_P] and p >= floats[_MIN_P] * first
        mass += p
        if i == 0 or (keep and not is_banned(ids[i], special, stops, ints[_NUM_STOPS])):
            kept[n], w[n] = ids[i], p
            total += p
            n += 1
    if ints[_VECTOR] < 0:
        for i in range(n):
            w[i] /= total
    while n > 0 and w[n - 1] == 0:  # too small for a float32
        n -= 1
    return n
