"""The routing ops in plain torch, float32, one row at a time: what the kernels are held to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .layout import (
    FORCED_LOGIT,
    MAX_LOGIT,
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
from .reference_mix import mix, mix_full
from .reference_policies import Choice, View, choose, end, is_used_up, mixture_weights

__all__ = ["confidence", "decide", "ends_with", "entropy_of", "is_active", "mix", "mix_full"]


def is_active(slots: Slots, slot: int) -> bool:
    """Whether a slot is in a phase that its policy, if it has one, has a say in."""
    phase = int(slots.state[slot, State.PHASE])
    is_asked = phase == Phase.THINK or (
        phase != Phase.OVER and int(slots.ints[slot, IntParam.ALL_PHASES]) == 1
    )
    return is_asked and int(slots.ints[slot, IntParam.POLICY]) != Policy.NONE


def confidence(logits: torch.Tensor, slot_ids: torch.Tensor, slots: Slots) -> Confidence:
    """Partition sums, entropy sum and the best MAX_TOP_N candidates of every active row.

    Args:
        logits: [B, V], any float dtype, after every logits processor and before temperature.
        slot_ids: int64 [B], the slot of each row.
        slots: parameters and state; rows of inactive slots are left unwritten.

    Source: Soft Thinking (2505.15778): p = softmax(z/T), H over the full vocabulary before filters.
    """
    out = Confidence.empty(logits.shape[0], logits.device)
    for row, slot in enumerate(slot_ids.tolist()):
        if not is_active(slots, slot):
            continue
        z = logits[row].float()
        z = torch.where(z.isnan(), -math.inf, z.clamp(max=MAX_LOGIT))
        order = torch.sort(z, descending=True, stable=True)
        n = min(MAX_TOP_N, z.numel())
        out.top_logits[row] = -math.inf
        out.top_ids[row] = 0
        out.top_logits[row, :n] = order.values[:n]
        out.top_ids[row, :n] = order.indices[:n].int()
        shifted = z - z.max()
        x = shifted / slots.floats[slot, FloatParam.TEMPERATURE]
        finite = x > -math.inf
        raw = int(slots.ints[slot, IntParam.RAW_CONFIDENCE]) == 1
        out.sum_raw[row] = shifted[finite].exp().sum() if raw else 0.0
        out.sum_mix[row] = x[finite].exp().sum()
        out.sum_xmix[row] = (x[finite] * x[finite].exp()).sum()
    return out


def entropy_of(conf: Confidence, row: int) -> float:
    """H of softmax(z / T) over the whole vocabulary, in nats; 0 of a row in which nothing is allowed."""
    sum_mix, sum_xmix = float(conf.sum_mix[row]), float(conf.sum_xmix[row])
    return max(math.log(sum_mix) - sum_xmix / sum_mix, 0.0) if sum_mix > 0 else 0.0


def ends_with(tokens: torch.Tensor, position: int, token: int, marker: torch.Tensor) -> bool:
    """Whether `token` at `position` completes `marker` after the tokens before it."""
    n = marker.numel()
    if n == 0 or position + 1 < n or token != int(marker[-1]):
        return False
    return tokens[position - n + 1 : position].tolist() == marker[:-1].tolist()


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
    """(recorded token, next input, state') = F(confidence, sampled token, state; parameters).

    Args:
        conf: of the same rows; slot_ids: int64 [B]; positions: int64 [B], of the last input token.
        sampled: int64 [B], the base sampler's tokens; overwritten by the recorded ones.
        prefill_lens: int32 [max_num_reqs]; a row short of it samples nothing and is skipped.
        seeds: int64 [max_num_reqs]; tokens: int32 [max_num_reqs, max_model_len], all known tokens.
        slots, ledger: updated in place. record: zeroed, written for every row.
    """
    record.ids[:, -1] = -record.ids.shape[1]
    for row, slot in enumerate(slot_ids.tolist()):
        position, ints = int(positions[row]) + 1, slots.ints[slot].tolist()
        if ints[IntParam.POLICY] == Policy.NONE or position < int(prefill_lens[slot]):
            continue
        at = (ints[IntParam.LEDGER_ROW], position - ints[IntParam.PROMPT_LEN])
        ledger.counts[at] = 0
        record.ids[row, 1] = 8 * int(position == int(prefill_lens[slot]))
        phase = int(slots.state[slot, State.PHASE])
        if is_asked := is_active(slots, slot):
            step = _Step(row, slot, int(sampled[row]), int(seeds[slot]), position, *at)
            sampled[row] = _act(step, conf, slots, ledger, markers, record)
        known = (tokens[slot], position, int(sampled[row]))
        if is_asked and phase != Phase.BEFORE:
            end(slots, slot, markers, ends_with(*known, markers.natural_end))
        elif phase == Phase.BEFORE and ends_with(*known, markers.start):
            slots.state[slot, State.PHASE] = Phase.THINK
        ledger.state[at] = slots.state[slot]


@dataclass(frozen=True)
class _Step:
    """Where a step stands."""

    row: int
    slot: int
    sampled: int
    seed: int
    position: int
    ledger_row: int
    index: int


def _act(
    step: _Step,
    conf: Confidence,
    slots: Slots,
    ledger: LedgerTensors,
    markers: Markers,
    record: Record,
) -> int:
    """One step of a policy: returns the recorded token; only thinking is recorded further."""
    ints, floats = slots.ints[step.slot], slots.floats[step.slot]
    top, ids = conf.top_logits[step.row], conf.top_ids[step.row]
    entropy = entropy_of(conf, step.row)
    sum_raw, sum_mix = float(conf.sum_raw[step.row]), float(conf.sum_mix[step.row])
    raw = int(ints[IntParam.RAW_CONFIDENCE]) == 1
    p_max = 1.0 / max(sum_raw if raw else sum_mix, 1.0)
    if top[0] == -math.inf:
        p_max = entropy = 0.0  # the sampled token stands, and there is nothing to be sure of
    stops = slots.stop_ids[step.slot, : int(ints[IntParam.NUM_STOP_IDS])].long()
    never_mixed = markers.special != 0
    never_mixed[stops[stops < never_mixed.numel()]] = True
    weights = mixture_weights(top, sum_mix, slots, step.slot, never_mixed[ids.long()])
    if top[0] == -math.inf:
        weights = torch.zeros_like(weights)
    kept = weights > 0
    view = View(
        ids[kept], weights[kept], top, step.sampled, p_max, entropy, step.seed, step.position,
        ints, floats, slots.state[step.slot], markers,
    )  # fmt: skip
    is_thinking = int(view.state[State.PHASE]) == Phase.THINK
    route, cause, choice = _choose(view, float(top[0]), never_mixed)
    if route == Route.SOFT and int(ints[IntParam.VECTOR_ROW]) >= 0:
        _write_rest(step, choice, view.ids.numel(), int(ints[IntParam.WIDTH]), ledger)
    elif route == Route.SOFT:
        _write_entry(step, choice, int(ints[IntParam.WIDTH]), ledger)
    if is_thinking:
        _write_record(record.ids[step.row], record.values[step.row], route, cause, choice)
        record.values[step.row, 0], record.values[step.row, 1] = p_max, entropy
    return choice.token


def _write_record(
    ids: torch.Tensor, values: torch.Tensor, route: Route, cause: Cause, choice: Choice
) -> None:
    width = min(choice.ids.numel(), ids.numel() - RECORD_EXTRA)
    ids[0] = int(route) + 8 * width
    ids[1] += int(cause)
    ids[2 : 2 + width] = choice.ids[:width].long()
    values[2 : 2 + width] = choice.weights[:width]


def _write_entry(step: _Step, fed: Choice, width: int, ledger: LedgerTensors) -> None:
    start, count = step.index * width, fed.ids.numel()
    ledger.counts[step.ledger_row, step.index] = count
    ledger.ids[step.ledger_row, start : start + count] = fed.ids
    ledger.weights[step.ledger_row, start : start + count] = fed.weights


def _write_rest(
    step: _Step, fed: Choice, num_mixed: int, width: int, ledger: LedgerTensors
) -> None:
    """What a policy adds to a mixture of the whole vocabulary, which is in the ledger's vectors."""
    at, has_own = step.index * width, fed.ids.numel() > num_mixed
    ledger.counts[step.ledger_row, step.index] = -1
    ledger.ids[step.ledger_row, at] = fed.ids[num_mixed] if has_own else 0
    ledger.weights[step.ledger_row, at] = fed.weights[num_mixed] if has_own else 0.0


def _cause(view: View, logit: float, cold: int) -> Cause:
    """What ends thinking at this step; past its end the switch budget alone still writes markers."""
    ints, phase = view.ints, int(view.state[State.PHASE])
    has_left = int(view.state[State.STAY]) == 1
    is_spent = has_left and is_used_up(ints, view.state)
    if phase == Phase.BEFORE or (phase == Phase.ANSWER and not is_spent):
        return Cause.NONE
    if phase == Phase.THINK and 0 < int(ints[IntParam.COLD_STEPS]) <= cold:
        return Cause.COLD_STOP
    if is_spent:
        return Cause.SWITCH_BUDGET
    if logit >= FORCED_LOGIT:
        return Cause.BUDGET
    is_late = view.position - int(ints[IntParam.PROMPT_LEN]) >= int(ints[IntParam.CLOSE_AT])
    return Cause.MIN_ANSWER if is_late else Cause.NONE


def _choose(view: View, logit: float, never_mixed: torch.Tensor) -> tuple[Route, Cause, Choice]:
    """The route, and what to record and feed; forced ends and special tokens overrule the policy.

    Args:
        logit: of the best candidate, -inf where nothing is allowed; never_mixed: bool [vocab_size].
    """
    state = view.state
    hard = Choice(view.sampled, False, view.ids, view.weights)
    is_cold = logit > -math.inf and view.entropy < float(view.floats[FloatParam.COLD_ENTROPY])
    is_cold &= int(state[State.PHASE]) == Phase.THINK
    cold = int(state[State.COLD_COUNT]) + 1 if is_cold else 0
    forcing = int(state[State.FORCING])
    state[State.COLD_COUNT] = cold
    if logit == -math.inf:
        return Route.DISCRETE, Cause.NONE, hard
    cause = _cause(view, logit, cold)
    told = Cause.NONE if forcing > 0 else cause
    # The budget writes a marker of its own, which another cause would cut off.
    if forcing > 0 or cause not in (Cause.NONE, Cause.BUDGET):
        state[State.FORCING] = forcing + 1
        state[State.STAY] += int(state[State.STAY] > 0)
        return Route.FORCED, told, replace(hard, token=int(view.markers.final[forcing]))
    if logit >= FORCED_LOGIT:
        return Route.FORCED, told, replace(hard, token=int(view.ids[0]))
    choice = choose(view)
    if not choice.is_soft:
        return Route.DISCRETE, told, choice
    if never_mixed[view.ids[0]] or never_mixed[choice.token]:
        return Route.DISCRETE, told, replace(hard, token=choice.token)
    return Route.SOFT, told, choice
