"""`confidence` on the CPU: two vectorised passes over a row, and a look at its best chunks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit, prange
from ..engine.rows import CHUNK, fast_exp2, fill_chunk_maxima, num_chunks
from ..layout import MAX_LOGIT, FloatParam, IntParam, Phase, Policy, State

_LOG2E = np.float32(1.0 / math.log(2.0))
# 2^-126 is the least normal float32: a lesser term leaves every sum unchanged.
_LOWEST = np.float32(-126.0)
_NEG_INF = np.float32(-np.inf)
_MAX_LOGIT = np.float32(MAX_LOGIT)

_POLICY, _RAW = int(IntParam.POLICY), int(IntParam.RAW_CONFIDENCE)
_NONE, _THINK, _PHASE = int(Policy.NONE), int(Phase.THINK), int(State.PHASE)
_ALL, _OVER = int(IntParam.ALL_PHASES), int(Phase.OVER)
_TOP_N, _TEMPERATURE = int(IntParam.TOP_N), int(FloatParam.TEMPERATURE)


@njit(reorder=True, fuse=True)
def _exp_sums(z: NDArray[np.float32], m: np.float32, inv_t: np.float32) -> tuple[float, float]:
    """Sums of exp(x) and x exp(x), x = (z - m) / T."""
    total, total_x = np.float64(0.0), np.float64(0.0)
    to_bits = inv_t * _LOG2E
    for chunk in range(num_chunks(z.size)):
        part = z[chunk * CHUNK : (chunk + 1) * CHUNK]
        s, sx = np.float32(0.0), np.float32(0.0)
        for i in range(part.size):
            x = (part[i] - m) * to_bits
            x = x if x > _LOWEST else _LOWEST  # NaN too
            e = fast_exp2(x)
            s += e
            sx += e * x
        total += s
        total_x += sx
    return total, total_x * math.log(2.0)


@njit()
def _take_best(
    z: NDArray[np.float32], first_id: int, values: NDArray[np.float32], ids: NDArray[np.int32]
) -> None:
    """Insert into a descending list what exceeds its last value; ties stay in order of arrival."""
    last = values.size - 1
    for i in range(z.size):
        if z[i] > values[last]:
            j = last
            while j > 0 and values[j - 1] < z[i]:
                values[j], ids[j] = values[j - 1], ids[j - 1]
                j -= 1
            values[j], ids[j] = z[i], first_id + i


@njit()
def _top(z: NDArray[np.float32], values: NDArray[np.float32], ids: NDArray[np.int32]) -> None:
    """The best of a row in order, ties to the lowest id; only in chunks whose best can be one."""
    maxima = np.empty(num_chunks(z.size), np.float32)
    fill_chunk_maxima(z, maxima)
    values[:] = _NEG_INF
    _take_best(maxima, 0, values, ids)
    floor = values[-1]
    values[:], ids[:] = _NEG_INF, 0
    for chunk in range(maxima.size):
        # The maximum of a chunk with a NaN is NaN.
        if not (maxima[chunk] < floor or maxima[chunk] <= values[-1]):
            start = chunk * CHUNK
            _take_best(z[start : start + CHUNK], start, values, ids)


@njit(parallel=True)
def confidence_rows(
    z: NDArray[np.float32],
    slot_ids: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    state: NDArray[np.int32],
    top_logits: NDArray[np.float32],
    top_ids: NDArray[np.int32],
    sum_raw: NDArray[np.float32],
    sum_mix: NDArray[np.float32],
    sum_xmix: NDArray[np.float32],
) -> None:
    """Fill the confidence of every active row of float32 logits [B, V]; threads share the rows."""
    for row in prange(z.shape[0]):
        slot = slot_ids[row]
        phase = state[slot, _PHASE]
        is_asked = phase == _THINK or (ints[slot, _ALL] == 1 and phase != _OVER)
        if ints[slot, _POLICY] == _NONE or not is_asked:
            continue
        top_n = ints[slot, _TOP_N]
        top_logits[row, top_n:], top_ids[row, top_n:] = _NEG_INF, 0
        logits, values, ids = z[row], top_logits[row, :top_n], top_ids[row, :top_n]
        _top(logits, values, ids)
        if values[0] > _MAX_LOGIT:
            logits = np.minimum(logits, _MAX_LOGIT)
            _top(logits, values, ids)
        m = values[0]
        if m == _NEG_INF:
            sum_raw[row] = sum_mix[row] = sum_xmix[row] = 0.0
            continue
        inv_t = np.float32(1.0) / floats[slot, _TEMPERATURE]
        s, sx = _exp_sums(logits, m, inv_t)
        sum_mix[row], sum_xmix[row], sum_raw[row] = s, sx, 0.0
        if ints[slot, _RAW] == 1:
            sum_raw[row] = _exp_sums(logits, m, np.float32(1.0))[0]
