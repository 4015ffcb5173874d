"""What each policy makes of a thinking step, on the CPU; see `reference_policies`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import FloatParam, IntParam, Policy

_SOFT, _ROUTER, _RANDOM = int(Policy.SOFT), int(Policy.THINKROUTER), int(Policy.RANDOM)
_ADAPTIVE, _STOCHASTIC = int(Policy.ADAPTIVE_GREEDY), int(Policy.STOCHASTIC)
_MOI, _SELAR = int(Policy.MOI), int(Policy.SELAR)
_POLICY, _TOP_N = int(IntParam.POLICY), int(IntParam.TOP_N)
_T, _NEG_INF = int(FloatParam.TEMPERATURE), np.float32(-np.inf)
_TAU, _SHARE = int(FloatParam.THRESHOLD), int(FloatParam.SOFT_SHARE)
_GUMBEL_T, _BETA = int(FloatParam.GUMBEL_TEMPERATURE), int(FloatParam.BETA)
_GATE, _PUSH = int(FloatParam.ENTROPY_THRESHOLD), int(FloatParam.PUSH_OFF)
_COIN = 0x9E3779B9  # no token id


@njit()
def _bits(seed: int, position: int, word: int) -> np.uint64:
    mask = np.uint64(0xFFFFFFFF)
    s = np.uint64(seed)
    h = (s & mask) ^ (s >> np.uint64(32))
    for part in (np.uint64(position) & mask, np.uint64(word)):
        h = h ^ part
        h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
        h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
        h = h ^ (h >> np.uint64(16))
    return h >> np.uint64(8)


@njit()
def _gumbel(seed: int, position: int, token: int) -> float:
    u = (float(_bits(seed, position, token) >> np.uint64(1)) + 0.5) * 2.0**-23
    return -math.log(-math.log(u))


@njit()
def _stochastic(
    ids: NDArray[np.int32],
    w: NDArray[np.float32],
    n: int,
    seed: int,
    position: int,
    temperature: float,
    fed: NDArray[np.float32],
) -> int:
    """Fill `fed`; returns the component with the largest weight, the first of equals."""
    best, total = 0, 0.0
    for i in range(n):
        fed[i] = math.log(w[i]) + _gumbel(seed, position, ids[i])
        if fed[i] > fed[best]:
            best = i
    highest = fed[best]
    for i in range(n):
        fed[i] = math.exp((fed[i] - highest) / temperature)
        total += fed[i]
    for i in range(n):
        fed[i] /= total
    return best


@njit()
def _spread(top: NDArray[np.float32], n: int, temperature: float) -> float:
    """Entropy of softmax(z / T) over the best n candidates alone, over its maximum."""
    total, dot = 0.0, 0.0
    for i in range(n):
        if top[i] == _NEG_INF:
            break
        x = (top[i] - top[0]) / temperature
        total += math.exp(x)
        dot += x * math.exp(x)
    entropy = max(math.log(total) - dot / total, 0.0)
    return min(entropy / math.log(n), 1.0) if n > 1 else 0.0


@njit()
def _moi(
    ids: NDArray[np.int32], n: int, token: int, h: float, beta: float, fed: NDArray[np.float32]
) -> int:
    """Weigh the sampled token into `fed`, behind the others where it is none of them; the new n."""
    own = n
    for i in range(n):
        fed[i] = h * fed[i] / (beta + 1)
        if ids[i] == token:
            own = i
    if own == n:
        ids[n], fed[n] = token, 0.0
    fed[own] += (beta + 1 - h) / (beta + 1)
    return max(n, own + 1)


@njit()
def choose(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    w: NDArray[np.float32],
    n: int,
    token: int,
    p_max: float,
    seed: int,
    position: int,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    fed: NDArray[np.float32],
) -> tuple[bool, int, int]:
    """Whether the slot's policy asks for a soft step, the token to record, the number of terms.

    The mixture has `n` components, the best candidate first; `fed` gets the weights to feed, and
    `ids` a term of the policy's own behind them. `top` holds the candidates' logits.
    """
    policy, is_sure = ints[_POLICY], p_max >= floats[_TAU]
    fed[:n] = w[:n]
    if policy == _STOCHASTIC:
        winner = _stochastic(ids, w, n, seed, position, floats[_GUMBEL_T], fed)
        return True, ids[winner], n
    if policy in (_MOI, _SELAR):
        h = _spread(top, ints[_TOP_N], floats[_T])
        if policy == _MOI:
            return True, token, _moi(ids, n, token, h, floats[_BETA], fed)
        if h < floats[_GATE]:
            return False, token, n
        push = floats[_PUSH] * h
        for i in range(n):
            fed[i] *= 1 + push
        fed[0] -= push
        return True, ids[0], n
    u = float(_bits(seed, position, _COIN)) * 2.0**-24
    is_soft = (
        policy == _SOFT
        or (policy == _ROUTER and is_sure)
        or (policy == _RANDOM and u < floats[_SHARE])
    )
    if is_soft or (policy == _ADAPTIVE and is_sure):
        return is_soft, ids[0], n
    return False, token, n
