"""`decide` on the CPU: a scalar loop over the rows; what a policy asks for is in `policies`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..engine.jit import njit
from ..layout import (
    FORCED_LOGIT,
    MAX_TERMS,
    RECORD_EXTRA,
    Cause,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Route,
    State,
)
from .mixture import is_banned, mixture
from .policies import choose

_NEG_INF = np.float32(-np.inf)
_NONE, _POLICY = int(Policy.NONE), int(IntParam.POLICY)
_RAW, _COLD_STEPS = int(IntParam.RAW_CONFIDENCE), int(IntParam.COLD_STEPS)
_ROW, _PROMPT, _WIDTH = (int(IntParam.LEDGER_ROW), int(IntParam.PROMPT_LEN), int(IntParam.WIDTH))
_NUM_STOPS, _CLOSE_AT = int(IntParam.NUM_STOP_IDS), int(IntParam.CLOSE_AT)
_COLD_H, _SWI = int(FloatParam.COLD_ENTROPY), int(Policy.SWI)
_PHASE, _COLD, _FORCING = int(State.PHASE), int(State.COLD_COUNT), int(State.FORCING)
_BUDGET, _SWITCHES = int(IntParam.SWITCH_BUDGET), int(State.SWITCHES)
_REFERENCE, _STAY = int(State.REFERENCE), int(State.STAY)
_VECTOR, _ALL = int(IntParam.VECTOR_ROW), int(IntParam.ALL_PHASES)
_BY_BUDGET, _BY_COLD = int(Cause.BUDGET), int(Cause.COLD_STOP)
_BY_SWITCHES, _BY_MIN = int(Cause.SWITCH_BUDGET), int(Cause.MIN_ANSWER)
_BEFORE, _THINK = int(Phase.BEFORE), int(Phase.THINK)
_ANSWER, _OVER = int(Phase.ANSWER), int(Phase.OVER)
_SOFT, _DISCRETE, _FORCED = int(Route.SOFT), int(Route.DISCRETE), int(Route.FORCED)


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
def _record(
    route: int,
    p_max: float,
    entropy: float,
    ids: NDArray[np.int32],
    w: NDArray[np.float32],
    n: int,
    out_ids: NDArray[np.int64],
    out_values: NDArray[np.float32],
) -> None:
    width = min(n, out_ids.shape[0] - RECORD_EXTRA)
    for i in range(width):
        out_ids[2 + i], out_values[2 + i] = ids[i], w[i]
    out_ids[0] = route + 8 * width
    out_values[0], out_values[1] = p_max, entropy


@njit()
def _cause(
    cold: int,
    index: int,
    is_budgeted: bool,
    ints: NDArray[np.int32],
    state: NDArray[np.int32],
) -> int:
    """What ends thinking at this step, 0 if nothing does; past its end markers may come again."""
    is_spent = 0 < ints[_BUDGET] <= state[_SWITCHES] and state[_STAY] == 1
    if state[_PHASE] == _BEFORE or (state[_PHASE] == _ANSWER and not is_spent):
        return 0
    if state[_PHASE] == _THINK and 0 < ints[_COLD_STEPS] <= cold:
        return _BY_COLD
    if is_spent:
        return _BY_SWITCHES
    if is_budgeted:
        return _BY_BUDGET
    return _BY_MIN if index >= ints[_CLOSE_AT] else 0


@njit()
def _end(
    ints: NDArray[np.int32],
    state: NDArray[np.int32],
    has_marker: bool,
    num_end: int,
    num_final: int,
) -> None:
    """Close thinking where an end marker, or all of a forced end, is out; see `reference_policies`."""
    is_spent = ints[_ALL] == 1 and 0 < ints[_BUDGET] <= state[_SWITCHES]
    is_past = is_spent and state[_SWITCHES] > 2 * ints[_BUDGET]
    is_out = state[_FORCING] >= (num_final if is_past else num_end)
    if not has_marker and not is_out:
        return
    is_rest = is_past and state[_FORCING] > 0 and not is_out
    goes_on = is_spent and state[_FORCING] > 0 and not is_past
    state[_COLD], state[_PHASE] = 0, _ANSWER
    if not is_rest:
        state[_FORCING] = 0
    if not is_rest and not goes_on:
        state[_REFERENCE] = state[_STAY] = state[_SWITCHES] = 0
        if ints[_POLICY] == _SWI:
            state[_PHASE] = _OVER


@njit()
def _act(
    top: NDArray[np.float32],
    ids: NDArray[np.int32],
    sum_raw: float,
    sum_mix: float,
    entropy: float,
    token: int,
    seed: int,
    position: int,
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    stops: NDArray[np.int32],
    state: NDArray[np.int32],
    state_floats: NDArray[np.float32],
    start: NDArray[np.int32],
    natural_end: NDArray[np.int32],
    special: NDArray[np.uint8],
    final: NDArray[np.int32],
    kept: NDArray[np.int32],
    w: NDArray[np.float32],
    fed: NDArray[np.float32],
    entry_ids: NDArray[np.int32],
    entry_weights: NDArray[np.float32],
    counts: NDArray[np.int32],
    out_ids: NDArray[np.int64],
    out_values: NDArray[np.float32],
) -> int:
    """One step of a policy: ledger entry and state, and a record of thinking; returns the token."""
    has_some, is_thinking = top[0] > _NEG_INF, state[_PHASE] == _THINK
    p_max = 1.0 / max(sum_raw if ints[_RAW] == 1 else sum_mix, 1.0)
    if not has_some:
        p_max, entropy = 0.0, 0.0
    is_cold = has_some and is_thinking and entropy < floats[_COLD_H]
    cold = state[_COLD] + 1 if is_cold else 0
    forcing, route, n, num_kept = state[_FORCING], _DISCRETE, 0, 0
    index = position - ints[_PROMPT]
    if has_some:
        n = num_kept = mixture(top, ids, sum_mix, ints, floats, special, stops, kept, w)
        is_budgeted = top[0] >= FORCED_LOGIT
        cause = _cause(cold, index, is_budgeted, ints, state)
        out_ids[1] += cause if is_thinking and forcing == 0 else 0
        # The budget writes a marker of its own, which another cause would cut off.
        if forcing > 0 or (cause > 0 and cause != _BY_BUDGET):
            token, route = final[forcing], _FORCED
            forcing += 1
            state[_STAY] += state[_STAY] > 0
        elif is_budgeted:
            token, route = ids[0], _FORCED
        else:
            is_soft, token, m = choose(
                top,
                kept,
                w,
                n,
                token,
                p_max,
                entropy,
                seed,
                position,
                ints,
                floats,
                state,
                state_floats,
                start,
                natural_end,
                fed,
            )
            banned = is_banned(ids[0], special, stops, ints[_NUM_STOPS])
            banned = banned or is_banned(token, special, stops, ints[_NUM_STOPS])
            if is_soft and not banned:
                route, w, n = _SOFT, fed, m
    state[_COLD] = cold
    state[_FORCING] = forcing
    if route == _SOFT:
        at = index * ints[_WIDTH]
        if ints[_VECTOR] >= 0:  # the mixture is a vector; here is what the policy adds to it
            has_own = n > num_kept
            entry_ids[at] = kept[num_kept] if has_own else 0
            entry_weights[at] = w[num_kept] if has_own else 0.0
            counts[index] = -1
        else:
            entry_ids[at : at + n], entry_weights[at : at + n] = kept[:n], w[:n]
            counts[index] = n
    if is_thinking:
        _record(route, p_max, entropy, kept, w, n, out_ids, out_values)
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
    final: NDArray[np.int32],
    record_ids: NDArray[np.int64],
    record_values: NDArray[np.float32],
) -> None:
    """Decide every row."""
    state_floats = state.view(np.float32)
    kept = np.empty(MAX_TERMS, np.int32)
    w, fed = np.empty(MAX_TERMS, np.float32), np.empty(MAX_TERMS, np.float32)
    for row in range(slot_ids.shape[0]):
        record_ids[row, -1] = -record_ids.shape[1]
        slot, position = slot_ids[row], positions[row] + 1
        p = ints[slot]
        if p[_POLICY] == _NONE or position < prefill_lens[slot]:
            continue
        index, ledger_row, token = position - p[_PROMPT], p[_ROW], sampled[row]
        counts[ledger_row, index] = 0
        if position == prefill_lens[slot]:
            record_ids[row, 1] = 8
        phase = state[slot, _PHASE]
        if phase == _THINK or (p[_ALL] == 1 and phase != _OVER):
            mass, x = sum_mix[row], sum_xmix[row]
            entropy = max(math.log(mass) - x / mass, 0.0) if mass > 0 else 0.0
            token = _act(
                top_logits[row], top_ids[row], sum_raw[row], mass, entropy, token,
                seeds[slot], position, p, floats[slot], stop_ids[slot], state[slot],
                state_floats[slot], start, natural_end, special, final, kept, w, fed,
                entry_ids[ledger_row], entry_weights[ledger_row],
                counts[ledger_row], record_ids[row], record_values[row],
            )  # fmt: skip
            sampled[row] = token
            if phase != _BEFORE:
                has_marker = _ends_with(tokens[slot], position, token, natural_end)
                _end(p, state[slot], has_marker, end.shape[0], final.shape[0])
        if phase == _BEFORE and _ends_with(tokens[slot], position, token, start):
            state[slot, _PHASE] = _THINK
        ledger_state[ledger_row, index] = state[slot]
