"""`decide` on the CPU: a scalar loop over the rows; the branch on the policy is `_wants_soft`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import (
    FORCED_LOGIT,
    MAX_TOP_N,
    RECORD_EXTRA,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Route,
    State,
)

_NEG_INF = np.float32(-np.inf)
_NONE, _SOFT_POLICY, _ROUTER = int(Policy.NONE), int(Policy.SOFT), int(Policy.THINKROUTER)
_RANDOM, _ADAPTIVE = int(Policy.RANDOM), int(Policy.ADAPTIVE_GREEDY)
_POLICY, _TOP_N, _TOP_K = int(IntParam.POLICY), int(IntParam.TOP_N), int(IntParam.TOP_K)
_RAW, _COLD_STEPS = int(IntParam.RAW_CONFIDENCE), int(IntParam.COLD_STEPS)
_ROW, _PROMPT = int(IntParam.LEDGER_ROW), int(IntParam.PROMPT_LEN)
_NUM_STOPS = int(IntParam.NUM_STOP_IDS)
_TAU, _T, _TOP_P = int(FloatParam.THRESHOLD), int(FloatParam.TEMPERATURE), int(FloatParam.TOP_P)
_MIN_P, _COLD_H = int(FloatParam.MIN_P), int(FloatParam.COLD_ENTROPY)
_SHARE = int(FloatParam.SOFT_SHARE)
_PHASE, _COLD, _FORCING = int(State.PHASE), int(State.COLD_COUNT), int(State.FORCING)
_BEFORE, _THINK, _ANSWER = int(Phase.BEFORE), int(Phase.THINK), int(Phase.ANSWER)
_SOFT, _DISCRETE, _FORCED = int(Route.SOFT), int(Route.DISCRETE), int(Route.FORCED)


@njit()
def _coin(seed: int, position: int) -> float:
    mask = np.uint64(0xFFFFFFFF)
    s = np.uint64(seed)
    h = (s & mask) ^ (s >> np.uint64(32))
    for word in (np.uint64(position) & mask, np.uint64(0x9E3779B9)):
        h = h ^ word
        h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
        h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
        h = h ^ (h >> np.uint64(16))
    return float(h >> np.uint64(8)) * 2.0**-24


@njit()
def _wants_soft(policy: int, p_max: float, threshold: float, share: float, u: float) -> bool:
    if policy == _SOFT_POLICY:
        return True
    if policy == _ROUTER:
        return p_max >= threshold
    return policy == _RANDOM and u < share


@njit()
def _ends_with(
    tokens: NDArray[np.int32], position: int, token: int, marker: NDArray[np.int32]
) -> bool:
    n = marker.shape[0]
    if n == 0 or position + 1 < n or token != marker[n - 1]:
        return False
    for i in range(n - 1):
        if tokens[position - n + 1 + i] != marker[i]:
            return False
    return True


@njit()
def _is_banned(
    token: int, special: NDArray[np.uint8], stops: NDArray[np.int32], num_stops: int
) -> bool:
    if special[token] != 0:
        return True
    for i in range(num_stops):
        if stops[i] == token:
            return True
    return False


@njit()
def _weights(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    sum_mix: float,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    special: NDArray[np.uint8],
    stops: NDArray[np.int32],
    w: NDArray[np.float32],
) -> None:
    """The filters on softmax(z / T), then renormalised; a special token stays only as the first."""
    top_k = ints[_TOP_K] if ints[_TOP_K] > 0 else MAX_TOP_N
    limit, mass, total = min(top_k, ints[_TOP_N]), 0.0, 0.0
    first = 1.0 / sum_mix
    for i in range(MAX_TOP_N):
        w[i] = 0.0
        if i >= limit or top[i] == _NEG_INF:
            continue
        p = math.exp((top[i] - top[0]) / floats[_T]) / sum_mix
        keep = mass < floats[_TOP_P] and p >= floats[_MIN_P] * first
        mass += p
        if i == 0 or (keep and not _is_banned(ids[i], special, stops, ints[_NUM_STOPS])):
            w[i] = p
            total += p
    for i in range(MAX_TOP_N):
        w[i] /= total


@njit()
def _record(
    route: int,
    p_max: float,
    entropy: float,
    ids: NDArray[np.int32],
    w: NDArray[np.float32],
    out_ids: NDArray[np.int64],
    out_values: NDArray[np.float32],
) -> None:
    width, room = 0, out_ids.shape[0] - RECORD_EXTRA
    for i in range(MAX_TOP_N):
        if w[i] > 0 and width < room:
            out_ids[2 + width], out_values[2 + width] = ids[i], w[i]
            width += 1
    out_ids[0] = route + 8 * width
    out_values[0], out_values[1] = p_max, entropy


@njit()
def _think(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    sum_raw: float,
    sum_mix: float,
    entropy: float,
    token: int,
    u: float,
    index: int,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    stops: NDArray[np.int32],
    state: NDArray[np.int32],
    end: NDArray[np.int32],
    special: NDArray[np.uint8],
    w: NDArray[np.float32],
    entry_ids: NDArray[np.int32],
    entry_weights: NDArray[np.float32],
    counts: NDArray[np.int32],
    out_ids: NDArray[np.int64],
    out_values: NDArray[np.float32],
) -> int:
    """One thinking step: ledger entry, record and state; returns the recorded token."""
    has_some = top[0] > _NEG_INF
    p_max = 1.0 / max(sum_raw if ints[_RAW] == 1 else sum_mix, 1.0)
    if not has_some:
        p_max, entropy = 0.0, 0.0
    cold = state[_COLD] + 1 if has_some and entropy < floats[_COLD_H] else 0
    forcing, route, policy = state[_FORCING], _DISCRETE, ints[_POLICY]
    if not has_some:
        w[:] = 0.0
    else:
        _weights(top, ids, sum_mix, ints, floats, special, stops, w)
        if forcing > 0 or 0 < ints[_COLD_STEPS] <= cold:
            token, route = end[forcing], _FORCED
            forcing += 1
        elif top[0] >= FORCED_LOGIT:
            token, route = ids[0], _FORCED
        elif _wants_soft(policy, p_max, floats[_TAU], floats[_SHARE], u):
            token = ids[0]
            banned = _is_banned(ids[0], special, stops, ints[_NUM_STOPS])
            route = _DISCRETE if banned else _SOFT
        elif policy == _ADAPTIVE and p_max >= floats[_TAU]:
            token = ids[0]
    state[_COLD] = cold
    state[_FORCING] = forcing
    if forcing >= end.shape[0] > 0:  # the whole marker is out, recognised as an end or not
        state[_PHASE], state[_COLD], state[_FORCING] = _ANSWER, 0, 0
    if route == _SOFT:
        count = 0
        for i in range(MAX_TOP_N):
            if w[i] > 0:
                entry = index * ints[_TOP_N] + count
                entry_ids[entry], entry_weights[entry] = ids[i], w[i]
                count += 1
        counts[index] = count
    _record(route, p_max, entropy, ids, w, out_ids, out_values)
    return token


@njit()
def decide_rows(
    top_logits: NDArray[np.float32],
    top_ids: NDArray[np.int32],
    sum_raw: NDArray[np.float32],
    sum_mix: NDArray[np.float32],
    sum_xmix: NDArray[np.float32],
    sampled: NDArray[np.int64],
    slot_ids: NDArray[np.int64],
    positions: NDArray[np.int64],
    prefill_lens: NDArray[np.int32],
    seeds: NDArray[np.int64],
    tokens: NDArray[np.int32],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    stop_ids: NDArray[np.int32],
    state: NDArray[np.int32],
    entry_ids: NDArray[np.int32],
    entry_weights: NDArray[np.float32],
    counts: NDArray[np.int32],
    ledger_state: NDArray[np.int32],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    natural_end: NDArray[np.int32],
    special: NDArray[np.uint8],
    record_ids: NDArray[np.int64],
    record_values: NDArray[np.float32],
) -> None:
    """Decide every row; the confidence holds one split a row on the CPU."""
    w = np.empty(MAX_TOP_N, np.float32)
    for row in range(slot_ids.shape[0]):
        record_ids[row, -1] = -record_ids.shape[1]
        slot, position = slot_ids[row], positions[row] + 1
        p = ints[slot]
        if p[_POLICY] == _NONE or position < prefill_lens[slot]:
            continue
        index, ledger_row, token = position - p[_PROMPT], p[_ROW], sampled[row]
        counts[ledger_row, index] = 0
        if state[slot, _PHASE] == _THINK:
            mass, x = sum_mix[row, 0], sum_xmix[row, 0]
            entropy = max(math.log(mass) - x / mass, 0.0) if mass > 0 else 0.0
            token = _think(
                top_logits[row, 0], top_ids[row, 0], sum_raw[row, 0], mass, entropy, token,
                _coin(seeds[slot], position), index, p, floats[slot], stop_ids[slot], state[slot],
                end, special, w, entry_ids[ledger_row], entry_weights[ledger_row],
                counts[ledger_row], record_ids[row], record_values[row],
            )  # fmt: skip
            sampled[row] = token
            if _ends_with(tokens[slot], position, token, natural_end):
                state[slot, _PHASE], state[slot, _COLD], state[slot, _FORCING] = _ANSWER, 0, 0
        elif state[slot, _PHASE] == _BEFORE and _ends_with(tokens[slot], position, token, start):
            state[slot, _PHASE] = _THINK
        ledger_state[ledger_row, index] = state[slot]
