"""`decide`: a row's policy, weights, token, ledger entry, state and record, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .backend import uses_triton
from .cpu.decide import decide_rows
from .layout import (
    FORCED_LOGIT,
    MAX_STOP_IDS,
    MAX_TERMS,
    MAX_TOP_N,
    RECORD_EXTRA,
    Cause,
    Confidence,
    FloatParam,
    IntParam,
    LedgerTensors,
    Markers,
    Phase,
    Policy,
    Record,
    Route,
    Slots,
    State,
)
from .mixture import is_banned, load_confidence, mixture
from .policies import choose, switch

_NONE = tl.constexpr(int(Policy.NONE))
_BEFORE, _THINK = tl.constexpr(int(Phase.BEFORE)), tl.constexpr(int(Phase.THINK))
_ANSWER, _OVER = tl.constexpr(int(Phase.ANSWER)), tl.constexpr(int(Phase.OVER))
_SOFT, _DISCRETE = tl.constexpr(int(Route.SOFT)), tl.constexpr(int(Route.DISCRETE))
_FORCED = tl.constexpr(int(Route.FORCED))
_POLICY, _RAW = tl.constexpr(int(IntParam.POLICY)), tl.constexpr(int(IntParam.RAW_CONFIDENCE))
_COLD_STEPS = tl.constexpr(int(IntParam.COLD_STEPS))
_CLOSE_AT = tl.constexpr(int(IntParam.CLOSE_AT))
_ROW, _PROMPT = tl.constexpr(int(IntParam.LEDGER_ROW)), tl.constexpr(int(IntParam.PROMPT_LEN))
_WIDTH = tl.constexpr(int(IntParam.WIDTH))
_T = tl.constexpr(int(FloatParam.TEMPERATURE))
_COLD_H = tl.constexpr(int(FloatParam.COLD_ENTROPY))
_PHASE, _COLD = tl.constexpr(int(State.PHASE)), tl.constexpr(int(State.COLD_COUNT))
_FORCING = tl.constexpr(int(State.FORCING))
_REFERENCE, _STAY = tl.constexpr(int(State.REFERENCE)), tl.constexpr(int(State.STAY))
_SWITCHES, _SWI = tl.constexpr(int(State.SWITCHES)), tl.constexpr(int(Policy.SWI))
_BUDGET = tl.constexpr(int(IntParam.SWITCH_BUDGET))
_VECTOR = tl.constexpr(int(IntParam.VECTOR_ROW))
_ALL = tl.constexpr(int(IntParam.ALL_PHASES))
_BY_BUDGET, _BY_COLD = tl.constexpr(int(Cause.BUDGET)), tl.constexpr(int(Cause.COLD_STOP))
_BY_SWITCHES = tl.constexpr(int(Cause.SWITCH_BUDGET))
_BY_MIN = tl.constexpr(int(Cause.MIN_ANSWER))
_FORCED_LOGIT = tl.constexpr(FORCED_LOGIT)


@triton.jit
def _ends_with(tokens_ptr, position, token, marker_ptr, n: tl.constexpr):
    match = (n > 0) & (position + 1 >= n)
    for i in tl.static_range(n):
        if i == n - 1:
            match = match & (token == tl.load(marker_ptr + i))
        else:
            at = position - (n - 1) + i
            seen = tl.load(tokens_ptr + at, mask=at >= 0, other=-1)
            match = match & (seen == tl.load(marker_ptr + i))
    return match


@triton.jit
def _cause(phase, cold, stay, switches, index, budget, ints_ptr):
    """What ends thinking at this step, 0 if nothing does; past its end markers may come again."""
    cold_steps = tl.load(ints_ptr + _COLD_STEPS)
    switch_budget = tl.load(ints_ptr + _BUDGET)
    is_spent = (switch_budget > 0) & (switches >= switch_budget) & (stay == 1)
    cause = tl.where(index >= tl.load(ints_ptr + _CLOSE_AT), _BY_MIN, 0)
    cause = tl.where(budget, _BY_BUDGET, cause)
    cause = tl.where(is_spent, _BY_SWITCHES, cause)
    cause = tl.where((cold_steps > 0) & (cold >= cold_steps), _BY_COLD, cause)
    again = tl.where((phase == _ANSWER) & is_spent, _BY_SWITCHES, 0)
    return tl.where(phase == _THINK, cause, again)


@triton.jit
def _end(
    phase, cold, forcing, reference, stay, switches, has_marker, ints_ptr,
    END: tl.constexpr, FINAL: tl.constexpr,
):  # fmt: skip
    """Close thinking where an end marker, or all of a forced end, is out; see `reference_policies`."""
    budget = tl.load(ints_ptr + _BUDGET)
    is_spent = (tl.load(ints_ptr + _ALL) == 1) & (budget > 0) & (switches >= budget)
    is_past = is_spent & (switches > 2 * budget.to(tl.int64))
    is_out = forcing >= tl.where(is_past, FINAL, END)
    if has_marker | is_out:
        is_rest = is_past & (forcing > 0) & (is_out == 0)
        is_on = is_rest | (is_spent & (forcing > 0) & (is_past == 0))
        is_over = (is_on == 0) & (tl.load(ints_ptr + _POLICY) == _SWI)
        phase, cold = tl.where(is_over, _OVER, _ANSWER), 0
        forcing = tl.where(is_rest, forcing, 0)
        reference = tl.where(is_on, reference, 0.0)
        stay, switches = tl.where(is_on, stay, 0), tl.where(is_on, switches, 0)
    return phase, cold, forcing, reference, stay, switches


@triton.jit
def _store_terms(ids_ptr, weights_ptr, ids, w, keep, own, own_w, room):
    """Store the first `room` of the kept terms, then the policy's own; returns how many."""
    place = tl.cumsum(keep.to(tl.int32), axis=0) - 1
    kept = tl.sum(keep.to(tl.int32), axis=0)
    shown = keep & (place < room)
    tl.store(ids_ptr + place, ids.to(ids_ptr.dtype.element_ty), mask=shown)
    tl.store(weights_ptr + place, w, mask=shown)
    has_own = (own >= 0) & (kept < room)
    tl.store(ids_ptr + kept, own.to(ids_ptr.dtype.element_ty), mask=has_own)
    tl.store(weights_ptr + kept, own_w, mask=has_own)
    return tl.minimum(kept, room) + has_own.to(tl.int32)


@triton.jit
def _store_fed(ids_ptr, weights_ptr, ids, w, keep, own, own_w, ints_ptr, ROOM: tl.constexpr):
    """Store what a soft step feeds, but for a vector, which is there; returns the ledger's count."""
    count = tl.full((), -1, tl.int32)
    if tl.load(ints_ptr + _VECTOR) >= 0:
        tl.store(ids_ptr, tl.maximum(own, 0))
        tl.store(weights_ptr, tl.where(own >= 0, own_w, 0.0))
    else:
        count = _store_terms(ids_ptr, weights_ptr, ids, w, keep, own, own_w, ROOM)
    return count


@triton.jit
def _store_record(
    ids_ptr, values_ptr, route, p_max, entropy, ids, w, keep, own, own_w, room
):  # fmt: skip
    width = _store_terms(ids_ptr + 2, values_ptr + 2, ids, w, keep, own, own_w, room)
    tl.store(ids_ptr, (route + 8 * width).to(tl.int64))
    tl.store(values_ptr, p_max)
    tl.store(values_ptr + 1, entropy)


@triton.jit
def _load_state(ptr):
    reference = tl.load(ptr + _REFERENCE).to(tl.float32, bitcast=True)
    phase, cold, forcing = tl.load(ptr + _PHASE), tl.load(ptr + _COLD), tl.load(ptr + _FORCING)
    return phase, cold, forcing, reference, tl.load(ptr + _STAY), tl.load(ptr + _SWITCHES)


@triton.jit
def _store_state(ptr, phase, cold, forcing, reference, stay, switches):
    tl.store(ptr + _PHASE, phase)
    tl.store(ptr + _COLD, cold)
    tl.store(ptr + _FORCING, forcing)
    tl.store(ptr + _REFERENCE, reference.to(tl.int32, bitcast=True))
    tl.store(ptr + _STAY, stay)
    tl.store(ptr + _SWITCHES, switches)


# The record's width is the widest trace of a batch: as a constant it would compile anew for each.
@triton.jit(do_not_specialize=["record_width"])
def _decide_kernel(
    top_logits_ptr, top_ids_ptr, sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr,
    sampled_ptr, slot_ids_ptr, positions_ptr, prefill_lens_ptr, seeds_ptr, tokens_ptr,
    tokens_stride, ints_ptr, floats_ptr, stop_ids_ptr, state_ptr, entry_ids_ptr,
    entry_weights_ptr, entries_stride, counts_ptr, counts_stride, ledger_state_ptr,
    start_ptr, natural_end_ptr, special_ptr, final_ptr, record_ids_ptr, record_values_ptr,
    record_width,
    num_ints: tl.constexpr, num_floats: tl.constexpr, num_state: tl.constexpr,
    START: tl.constexpr, END: tl.constexpr, NATURAL_END: tl.constexpr, FINAL: tl.constexpr,
    TOP: tl.constexpr, STOPS: tl.constexpr, EXTRA: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    record_ids_ptr += row * record_width
    record_values_ptr += row * record_width
    tl.store(record_ids_ptr + record_width - 1, -record_width.to(tl.int64))
    slot, position = tl.load(slot_ids_ptr + row), tl.load(positions_ptr + row) + 1
    ints_ptr += slot * num_ints
    policy = tl.load(ints_ptr + _POLICY)
    prefill_len = tl.load(prefill_lens_ptr + slot)
    if (policy == _NONE) | (position < prefill_len):
        return
    floats_ptr, state_ptr = floats_ptr + slot * num_floats, state_ptr + slot * num_state
    index = position - tl.load(ints_ptr + _PROMPT)
    count, code = 0, (position == prefill_len).to(tl.int64) * 8
    ledger_row = tl.load(ints_ptr + _ROW).to(tl.int64)
    token = tl.load(sampled_ptr + row)
    phase, cold, forcing, reference, stay, switches = _load_state(state_ptr)
    tokens_ptr, stop_ids_ptr = tokens_ptr + slot * tokens_stride, stop_ids_ptr + slot * STOPS
    is_thinking, began = phase == _THINK, phase != _BEFORE
    if is_thinking | ((tl.load(ints_ptr + _ALL) == 1) & (phase != _OVER)):
        t = tl.load(floats_ptr + _T)
        top, ids, sum_raw, sum_mix, entropy = load_confidence(
            top_logits_ptr, top_ids_ptr, sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr, row, TOP
        )
        first = tl.max(top, axis=0)
        some = first > float("-inf")
        best = tl.sum(tl.where(tl.arange(0, TOP) == 0, ids, 0), axis=0).to(tl.int64)
        mass = tl.where(tl.load(ints_ptr + _RAW) == 1, sum_raw, sum_mix)
        p_max = tl.where(some, 1.0 / tl.maximum(mass, 1.0), 0.0)
        keep, w = mixture(
            top, ids, sum_mix, t, ints_ptr, floats_ptr, stop_ids_ptr, special_ptr, TOP, STOPS
        )
        is_cold = some & is_thinking & (entropy < tl.load(floats_ptr + _COLD_H))
        cold = tl.where(is_cold, cold + 1, 0)
        budget = first >= _FORCED_LOGIT
        cause = tl.where(some, _cause(phase, cold, stay, switches, index, budget, ints_ptr), 0)
        code += tl.where((forcing > 0) | (is_thinking == 0), 0, cause)
        # The budget writes a marker of its own, which another cause would cut off.
        force = some & ((forcing > 0) | ((cause > 0) & (cause != _BY_BUDGET)))
        soft, picked, fed, own, own_w = choose(
            policy, top, ids, keep, w, token, p_max, tl.load(seeds_ptr + slot), position,
            ints_ptr, floats_ptr,
        )  # fmt: skip
        if (policy == _SWI) & some & (force == 0) & (budget == 0):
            soft, share, own, reference, stay, switches = switch(
                entropy, position, reference, stay, switches, tl.load(start_ptr),
                tl.load(natural_end_ptr), ints_ptr, floats_ptr,
            )  # fmt: skip
            fed, own_w = share * w, 1 - share
        token = tl.where(some, picked, token)
        banned = is_banned(best, ints_ptr, stop_ids_ptr, special_ptr, STOPS)
        banned |= is_banned(token, ints_ptr, stop_ids_ptr, special_ptr, STOPS)
        route = tl.where(some & soft & (banned == 0), _SOFT, _DISCRETE)
        token = tl.where(budget, best, token)
        token = tl.where(force, tl.load(final_ptr + forcing).to(tl.int64), token)
        route = tl.where(force | budget, _FORCED, route)
        w, own = tl.where(route == _SOFT, fed, w), tl.where(route == _SOFT, own, -1)
        forcing = tl.where(force, forcing + 1, forcing)
        stay = tl.where(force & (stay > 0), stay + 1, stay)
        if route == _SOFT:
            at = ledger_row * entries_stride + index * tl.load(ints_ptr + _WIDTH)
            count = _store_fed(
                entry_ids_ptr + at, entry_weights_ptr + at, ids, w, keep, own, own_w, ints_ptr,
                TERMS,
            )  # fmt: skip
        tl.store(sampled_ptr + row, token)
        if is_thinking:
            _store_record(
                record_ids_ptr, record_values_ptr, route, p_max, entropy, ids, w, keep, own, own_w,
                record_width - EXTRA,
            )  # fmt: skip
        if began:
            has_marker = _ends_with(tokens_ptr, position, token, natural_end_ptr, NATURAL_END)
            phase, cold, forcing, reference, stay, switches = _end(
                phase, cold, forcing, reference, stay, switches, has_marker, ints_ptr, END, FINAL
            )
    if phase == _BEFORE:  # noqa: SIM102 (Triton evaluates both sides of an `and`)
        if _ends_with(tokens_ptr, position, token, start_ptr, START):
            phase = _THINK
    tl.store(record_ids_ptr + 1, code)
    at = ledger_row * counts_stride + index
    tl.store(counts_ptr + at, count)
    _store_state(state_ptr, phase, cold, forcing, reference, stay, switches)
    _store_state(ledger_state_ptr + at * num_state, phase, cold, forcing, reference, stay, switches)


def decide(
    conf: Confidence,
    sampled: torch.Tensor,
    slot_ids: torch.Tensor,
    positions: torch.Tensor,
    prefill_lens: torch.Tensor,
    seeds: torch.Tensor,
    tokens: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    markers: Markers,
    record: Record,
) -> None:
    """See `reference.decide`."""
    if not uses_triton(sampled.device):
        decide_rows(
            conf.top_logits.numpy(), conf.top_ids.numpy(), conf.sum_raw.numpy(),
            conf.sum_mix.numpy(), conf.sum_xmix.numpy(), sampled.numpy(), slot_ids.numpy(),
            positions.numpy(), prefill_lens.numpy(), seeds.numpy(), tokens.numpy(),
            slots.ints.numpy(), slots.floats.numpy(), slots.stop_ids.numpy(),
            slots.state.numpy(), ledger.ids.numpy(), ledger.weights.numpy(),
            ledger.counts.numpy(), ledger.state.numpy(), markers.start.numpy(),
            markers.end.numpy(), markers.natural_end.numpy(), markers.special.numpy(),
            markers.final.numpy(), record.ids.numpy(), record.values.numpy(),
        )  # fmt: skip
        return
    _decide_kernel[(sampled.shape[0],)](
        conf.top_logits, conf.top_ids, conf.sum_raw, conf.sum_mix, conf.sum_xmix, sampled,
         slot_ids, positions, prefill_lens, seeds, tokens, tokens.stride(0),
        slots.ints, slots.floats, slots.stop_ids, slots.state, ledger.ids, ledger.weights,
        ledger.ids.stride(0), ledger.counts, ledger.counts.stride(0), ledger.state,
        markers.start, markers.natural_end, markers.special, markers.final,
        record.ids, record.values, record.ids.shape[1],
        num_ints=slots.ints.shape[1], num_floats=slots.floats.shape[1],
        num_state=slots.state.shape[1], START=markers.start.shape[0], END=markers.end.shape[0],
        NATURAL_END=markers.natural_end.shape[0], FINAL=markers.final.shape[0],
        TOP=MAX_TOP_N, STOPS=MAX_STOP_IDS, EXTRA=RECORD_EXTRA, TERMS=MAX_TERMS, num_warps=1,
    )  # fmt: skip
