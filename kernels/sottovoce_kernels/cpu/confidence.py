"""`confidence` on the CPU: one block of the row at a time stays in the first-level cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import MAX_TOP_N, FloatParam, IntParam, Phase, Policy, State

_BLOCK = 512
_LOG2E = np.float32(1.4426950408889634)
# Below this exp(x) is under 2e-38: it leaves every sum unchanged.
_MIN_X = np.float32(-87.0)
_NEG_INF = np.float32(-np.inf)

_POLICY, _RAW = int(IntParam.POLICY), int(IntParam.RAW_CONFIDENCE)
_NONE, _THINK, _PHASE = int(Policy.NONE), int(Phase.THINK), int(State.PHASE)
_TEMPERATURE = int(FloatParam.TEMPERATURE)


@njit(reorder=True)
def _exp_sums(
    z: NDArray[np.float32],
    m: np.float32,
    inv_t: np.float32,
    powers: NDArray[np.int32],
    parts: NDArray[np.float32],
) -> tuple[float, float]:
    """Sums of exp(x) and x exp(x), x = (z - m) / T; exp is 2^k times a quintic of the rest."""
    total, total_x = np.float64(0.0), np.float64(0.0)
    scale = powers.view(np.float32)
    for start in range(0, z.shape[0], _BLOCK):
        size = min(_BLOCK, z.shape[0] - start)
        for i in range(size):
            x = (z[start + i] - m) * inv_t
            p = (x if x > _MIN_X else _MIN_X) * _LOG2E
            k = np.floor(p)
            f = p - k
            q = np.float32(1.8775767e-3) * f + np.float32(8.9893397e-3)
            q = q * f + np.float32(5.5826318e-2)
            q = q * f + np.float32(2.4015361e-1)
            q = q * f + np.float32(6.9315308e-1)
            parts[i] = q * f + np.float32(9.9999994e-1)
            powers[i] = (np.int32(k) + np.int32(127)) << np.int32(23)
        s, sx = np.float32(0.0), np.float32(0.0)
        for i in range(size):
            x = (z[start + i] - m) * inv_t
            x = x if x > _MIN_X else _MIN_X
            e = parts[i] * scale[i]
            s += e
            sx += e * x
        total += s
        total_x += sx
    return total, total_x


@njit()
def _top(
    z: NDArray[np.float32],
    block_max: NDArray[np.float32],
    values: NDArray[np.float32],
    ids: NDArray[np.int32],
) -> None:
    """The best MAX_TOP_N of a row in order, ties to the lowest id; every pick rescans one block."""
    n, num_blocks = z.shape[0], (z.shape[0] + _BLOCK - 1) // _BLOCK
    for b in range(num_blocks):
        m = _NEG_INF
        for i in range(b * _BLOCK, min(n, (b + 1) * _BLOCK)):
            m = z[i] if z[i] > m else m
        block_max[b] = m
    last, last_id = np.float32(np.inf), -1
    for pick in range(MAX_TOP_N):
        best_b = 0
        for b in range(1, num_blocks):
            if block_max[b] > block_max[best_b]:
                best_b = b
        best = block_max[best_b]
        values[pick], ids[pick] = best, 0
        if best == _NEG_INF:
            continue
        if best != last:
            last_id = -1
        rest, found = _NEG_INF, -1
        for i in range(best_b * _BLOCK, min(n, (best_b + 1) * _BLOCK)):
            v = z[i]
            if v == best and found < 0 and i > last_id:
                found = i
            elif (v < best or (v == best and i > last_id)) and v > rest:
                rest = v
        block_max[best_b] = rest
        ids[pick] = found
        last, last_id = best, found


@njit()
def confidence_rows(
    z: NDArray[np.float32],
    slot_ids: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    state: NDArray[np.int32],
    top_logits: NDArray[np.float32],
    top_ids: NDArray[np.int32],
    row_max: NDArray[np.float32],
    sum_raw: NDArray[np.float32],
    sum_mix: NDArray[np.float32],
    sum_xmix: NDArray[np.float32],
) -> None:
    """Fill the confidence of every active row of float32 logits [B, V]."""
    powers, parts = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.float32)
    block_max = np.empty((z.shape[1] + _BLOCK - 1) // _BLOCK, np.float32)
    for row in range(z.shape[0]):
        slot = slot_ids[row]
        if ints[slot, _POLICY] == _NONE or state[slot, _PHASE] != _THINK:
            continue
        _top(z[row], block_max, top_logits[row, 0], top_ids[row, 0])
        m = top_logits[row, 0, 0]
        row_max[row, 0] = m
        if m == _NEG_INF:
            sum_raw[row, 0] = sum_mix[row, 0] = sum_xmix[row, 0] = 0.0
            continue
        inv_t = np.float32(1.0) / floats[slot, _TEMPERATURE]
        s, sx = _exp_sums(z[row], m, inv_t, powers, parts)
        sum_mix[row, 0], sum_xmix[row, 0], sum_raw[row, 0] = s, sx, 0.0
        if ints[slot, _RAW] == 1:
            sum_raw[row, 0] = _exp_sums(z[row], m, np.float32(1.0), powers, parts)[0]
