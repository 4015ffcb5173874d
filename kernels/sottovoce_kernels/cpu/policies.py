"""What each policy makes of a thinking step, on the CPU; see `reference_policies`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import FloatParam, IntParam, Policy, State

_SOFT, _ROUTER, _RANDOM = int(Policy.SOFT), int(Policy.THINKROUTER), int(Policy.RANDOM)
_ADAPTIVE, _STOCHASTIC = int(Policy.ADAPTIVE_GREEDY), int(Policy.STOCHASTIC)
_MOI, _SELAR, _SWI = int(Policy.MOI), int(Policy.SELAR), int(Policy.SWI)
_POLICY, _TOP_N = int(IntParam.POLICY), int(IntParam.TOP_N)
_T, _NEG_INF = int(FloatParam.TEMPERATURE), np.float32(-np.inf)
_TAU, _SHARE = int(FloatParam.THRESHOLD), int(FloatParam.SOFT_SHARE)
_GUMBEL_T, _BETA = int(FloatParam.GUMBEL_TEMPERATURE), int(FloatParam.BETA)
_GATE, _PUSH = int(FloatParam.ENTROPY_THRESHOLD), int(FloatParam.PUSH_OFF)
_PROMPT, _MAX_TOKENS = int(IntParam.PROMPT_LEN), int(IntParam.MAX_TOKENS)
_WINDOW, _ENTER, _EXIT = (
    int(IntParam.WINDOW),
    int(FloatParam.ENTER_BLEND),
    int(FloatParam.EXIT_BLEND),
)
_REFERENCE, _STAY, _SWITCHES = int(State.REFERENCE), int(State.STAY), int(State.SWITCHES)
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
def _swi(
    entropy: float,
    index: int,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    state: NDArray[np.int32],
    state_floats: NDArray[np.float32],
) -> tuple[bool, bool, float]:
    """Whether the step feeds a mixture, whether it leaves soft, and the mixture's share of it."""
    stay, reference = state[_STAY], state_floats[_REFERENCE]
    leaves = stay < 0 and entropy < reference
    enters = stay > 0 and stay >= ints[_WINDOW] and entropy > reference
    if stay == 0 or leaves or enters:
        state_floats[_REFERENCE] = entropy
    if leaves:
        state[_STAY] = 1
        state[_SWITCHES] += 1
    elif stay == 0 or enters:
        state[_STAY] = -1
    else:
        state[_STAY] += -1 if stay < 0 else 1
    blend = 1.0
    if leaves or enters:
        first = float(floats[_EXIT] if leaves else floats[_ENTER])
        blend = first + (1 - first) * min(index / ints[_MAX_TOKENS], 1.0)
    return stay <= 0 or enters, leaves, blend


@njit()
def choose(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    w: NDArray[np.float32],
    n: int,
    token: int,
    p_max: float,
    entropy: float,
    seed: int,
    position: int,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    state: NDArray[np.int32],
    state_floats: NDArray[np.float32],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    fed: NDArray[np.float32],
) -> tuple[bool, int, int]:
    """Whether the slot's policy asks for a soft step, the token to record, the number of terms.

    The mixture has `n` components, the best candidate first; `fed` gets the weights to feed, and
    `ids` a term of the policy's own behind them. `top` holds the candidates' logits,
    `state_floats` the bits of `state`; `start` and `end` are the markers as the model writes them.
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
    if policy == _SWI:
        is_soft, leaves, blend = _swi(
            entropy, position - ints[_PROMPT], ints, floats, state, state_floats
        )
        if not is_soft or not blend < 1:
            return is_soft, token, n
        for i in range(n):
            fed[i] *= blend
        ids[n], fed[n] = end[0] if leaves else start[0], 1 - blend
        return True, token, n + 1
    u = float(_bits(seed, position, _COIN)) * 2.0**-24
    is_soft = (
        policy == _SOFT
        or (policy == _ROUTER and is_sure)
        or (policy == _RANDOM and u < floats[_SHARE])
    )
    if is_soft or (policy == _ADAPTIVE and is_sure):
        return is_soft, ids[0], n
    return False, token, n
