"""What each policy makes of a thinking step, in plain torch, float32: what `policies` is held to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .layout import MAX_TOP_N, FloatParam, IntParam, Markers, Phase, Policy, Slots, State


@dataclass(frozen=True)
class View:
    """A thinking step as a policy sees it."""

    ids: torch.Tensor  # int32 [n], the components of the mixture, the best candidate first
    weights: torch.Tensor  # float32 [n], positive, with sum 1
    top: torch.Tensor  # float32 [MAX_TOP_N], the logits of the candidates before the filters
    sampled: int
    p_max: float
    entropy: float  # nats
    seed: int
    position: int  # of the token that the step records
    ints: torch.Tensor  # the slot's parameters
    floats: torch.Tensor
    state: torch.Tensor  # the slot's, updated in place
    markers: Markers


@dataclass(frozen=True)
class Choice:
    """The token to record, whether to feed a mixture, and which."""

    token: int
    is_soft: bool
    ids: torch.Tensor  # int32 [m]
    weights: torch.Tensor  # float32 [m], with sum 1


def mixture_weights(
    top: torch.Tensor, sum_mix: float, slots: Slots, slot: int, banned: torch.Tensor
) -> torch.Tensor:
    """float32 [MAX_TOP_N] weights of the candidates: the filters on softmax(z/T), renormalised.

    Of a mixture of the whole vocabulary they are a part, and not renormalised.

    Kept: rank below top_k and top_n, probability mass ahead of it below top_p, probability at least
    min_p times the largest, and not special unless it is the largest.
    """
    floats, ints = slots.floats[slot], slots.ints[slot]
    p = ((top - top[0]) / floats[FloatParam.TEMPERATURE]).exp() / sum_mix
    rank = torch.arange(MAX_TOP_N)
    top_k = int(ints[IntParam.TOP_K]) or MAX_TOP_N
    keep = (rank < min(top_k, int(ints[IntParam.TOP_N]))) & (top > -math.inf)
    keep &= (p.cumsum(0) - p < floats[FloatParam.TOP_P]) & (p >= floats[FloatParam.MIN_P] * p[0])
    keep &= ~banned
    keep[0] = True
    w = torch.where(keep, p, torch.zeros_like(p))
    return w if int(ints[IntParam.VECTOR_ROW]) >= 0 else w / w.sum()


def coin(seed: int, position: int, word: int = 0x9E3779B9) -> int:
    """24 random bits of a request's seed, a position and a word (murmur3's finaliser, twice)."""
    mask = 0xFFFFFFFF
    h = ((seed & mask) ^ ((seed >> 32) & mask)) & mask
    for part in (position & mask, word):
        h = (h ^ part) & mask
        h = ((h ^ (h >> 16)) * 0x85EBCA6B) & mask
        h = ((h ^ (h >> 13)) * 0xC2B2AE35) & mask
        h = (h ^ (h >> 16)) & mask
    return h >> 8


def gumbel(seed: int, position: int, ids: torch.Tensor) -> torch.Tensor:
    """Float32 [n] standard Gumbel noise of token ids at a position, finite."""
    bits = [coin(seed, position, token) >> 1 for token in ids.tolist()]
    u = (torch.tensor(bits, dtype=torch.float32) + 0.5) * 2.0**-23  # exact, and inside (0, 1)
    return -(-u.log()).log()


def wants_soft(policy: int, p_max: float, threshold: float, share: float, u: float) -> bool:
    """Whether a policy asks for a soft step (ThinkRouter, 2602.11683: soft unless p_max < tau)."""
    if policy == Policy.SOFT:
        return True
    if policy == Policy.THINKROUTER:
        return p_max >= threshold
    return policy == Policy.RANDOM and u < share


def choose(view: View) -> Choice:
    """What the slot's policy asks for; special tokens and forced ends are the caller's."""
    policy = int(view.ints[IntParam.POLICY])
    threshold = float(view.floats[FloatParam.THRESHOLD])
    u = coin(view.seed, view.position) * 2.0**-24
    share = float(view.floats[FloatParam.SOFT_SHARE])
    is_soft = wants_soft(policy, view.p_max, threshold, share, u)
    if policy in _CHOICES:
        return _CHOICES[Policy(policy)](view)
    is_hard = policy == Policy.ADAPTIVE_GREEDY and view.p_max >= threshold
    token = int(view.ids[0]) if is_soft or is_hard else view.sampled
    return Choice(token, is_soft, view.ids, view.weights)


def _stochastic(view: View) -> Choice:
    """y = softmax((log w + g) / tau_g) of the mixture's weights w (2508.03440); records argmax y."""
    noised = view.weights.log() + gumbel(view.seed, view.position, view.ids)
    y = torch.softmax(noised / view.floats[FloatParam.GUMBEL_TEMPERATURE], 0)
    return Choice(int(view.ids[noised.argmax()]), True, view.ids, y)


def spread(view: View) -> float:
    """Entropy of softmax(z / T) over the best TOP_N candidates alone, over its maximum: in [0, 1]."""
    n = int(view.ints[IntParam.TOP_N])
    q = torch.softmax(view.top[:n] / view.floats[FloatParam.TEMPERATURE], 0)
    return min(float(torch.special.entr(q).sum()) / math.log(n), 1.0) if n > 1 else 0.0


def _moi(view: View) -> Choice:
    """(H w + (beta + 1 - H) onehot(sampled)) / (beta + 1), H the spread (2505.14827)."""
    h, beta = spread(view), float(view.floats[FloatParam.BETA])
    own = view.ids == view.sampled
    ids, weights = view.ids, h * view.weights
    if not own.any():
        ids = torch.cat([ids, torch.tensor([view.sampled]).int()])
        weights = torch.cat([weights, torch.zeros(1)])
        own = ids == view.sampled
    weights[own] += beta + 1 - h
    return Choice(view.sampled, True, ids, weights / (beta + 1))


def _selar(view: View) -> Choice:
    """Soft where the spread H is at the threshold or above: w + c H (w - onehot(best)) (2604.08299)."""
    h = spread(view)
    if h < view.floats[FloatParam.ENTROPY_THRESHOLD]:
        return Choice(view.sampled, False, view.ids, view.weights)
    push = float(view.floats[FloatParam.PUSH_OFF]) * h
    weights = (1 + push) * view.weights
    weights[0] -= push
    return Choice(int(view.ids[0]), True, view.ids, weights)


def _swi(view: View) -> Choice:
    """SwiReasoning (2510.05069): soft until H < H at the last switch, discrete until it is above.

    Entering soft the step feeds a w + (1 - a) E[start marker], leaving it b w + (1 - b) E[end marker],
    a = a0 + (1 - a0) t / max_tokens, b likewise.
    """
    state, ints, h = view.state, view.ints, view.entropy
    reference = state[State.REFERENCE :][:1].view(torch.float32)
    stay = int(state[State.STAY])
    leaves = stay < 0 and h < reference
    enters = stay >= int(ints[IntParam.WINDOW]) and h > reference
    if stay == 0 or leaves or enters:
        reference[0] = h
    state[State.SWITCHES] += int(leaves)
    if leaves:
        state[State.STAY] = 1
    elif stay == 0 or enters:
        state[State.STAY] = -1
    else:
        state[State.STAY] += -1 if stay < 0 else 1
    if stay > 0 and not enters:
        return Choice(view.sampled, False, view.ids, view.weights)
    if not leaves and not enters:
        return Choice(view.sampled, True, view.ids, view.weights)
    start = float(view.floats[FloatParam.EXIT_BLEND if leaves else FloatParam.ENTER_BLEND])
    index = view.position - int(ints[IntParam.PROMPT_LEN])
    blend = start + (1 - start) * min(index / int(ints[IntParam.MAX_TOKENS]), 1.0)
    return _anchored(view, blend, view.markers.natural_end if leaves else view.markers.start)


def is_used_up(ints: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether a slot has switched to discrete as often as its budget allows."""
    return 0 < int(ints[IntParam.SWITCH_BUDGET]) <= int(state[State.SWITCHES])


def end(slots: Slots, slot: int, markers: Markers, has_marker: bool) -> None:
    """Close a slot's thinking where an end marker, or all of a forced end, is out.

    With ALL_PHASES an end that the switch budget forced leaves the switching on; past twice the
    budget the final-answer phrase follows the marker, and nothing follows that.
    """
    ints, state = slots.ints[slot], slots.state[slot]
    forcing, budget = int(state[State.FORCING]), int(ints[IntParam.SWITCH_BUDGET])
    is_spent = int(ints[IntParam.ALL_PHASES]) == 1 and is_used_up(ints, state)
    is_past = is_spent and int(state[State.SWITCHES]) > 2 * budget
    is_out = forcing >= (markers.final if is_past else markers.end).numel()
    if not has_marker and not is_out:
        return
    is_rest = is_past and forcing > 0 and not is_out
    kept = state.clone()
    state[:] = 0
    if is_rest or (is_spent and forcing > 0 and not is_past):
        state[State.REFERENCE :] = kept[State.REFERENCE :]
        state[State.FORCING] = kept[State.FORCING] if is_rest else 0
        state[State.PHASE] = Phase.ANSWER
    else:
        is_swi = int(ints[IntParam.POLICY]) == Policy.SWI
        state[State.PHASE] = Phase.OVER if is_swi else Phase.ANSWER


def _anchored(view: View, blend: float, marker: torch.Tensor) -> Choice:
    ids, weights = view.ids, blend * view.weights
    if blend < 1:
        ids, weights = torch.cat([ids, marker[:1]]), torch.cat([weights, torch.tensor([1 - blend])])
    return Choice(view.sampled, True, ids, weights)


_CHOICES = {
    Policy.STOCHASTIC: _stochastic,
    Policy.MOI: _moi,
    Policy.SELAR: _selar,
    Policy.SWI: _swi,
}
