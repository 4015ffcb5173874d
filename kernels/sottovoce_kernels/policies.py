"""What each policy makes of a thinking step, in Triton: the part of `decide` that differs by policy."""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import FloatParam, IntParam, Policy

_SOFT, _ROUTER = tl.constexpr(int(Policy.SOFT)), tl.constexpr(int(Policy.THINKROUTER))
_RANDOM, _ADAPTIVE = tl.constexpr(int(Policy.RANDOM)), tl.constexpr(int(Policy.ADAPTIVE_GREEDY))
_STOCHASTIC = tl.constexpr(int(Policy.STOCHASTIC))
_MOI, _SELAR = tl.constexpr(int(Policy.MOI)), tl.constexpr(int(Policy.SELAR))
_SWI = tl.constexpr(int(Policy.SWI))
_TOP_N, _T = tl.constexpr(int(IntParam.TOP_N)), tl.constexpr(int(FloatParam.TEMPERATURE))
_TAU, _SHARE = tl.constexpr(int(FloatParam.THRESHOLD)), tl.constexpr(int(FloatParam.SOFT_SHARE))
_GUMBEL_T = tl.constexpr(int(FloatParam.GUMBEL_TEMPERATURE))
_BETA, _GATE = tl.constexpr(int(FloatParam.BETA)), tl.constexpr(int(FloatParam.ENTROPY_THRESHOLD))
_PUSH = tl.constexpr(int(FloatParam.PUSH_OFF))
_MAX_TOKENS = tl.constexpr(int(IntParam.MAX_TOKENS))
_PROMPT, _WINDOW = tl.constexpr(int(IntParam.PROMPT_LEN)), tl.constexpr(int(IntParam.WINDOW))
_ENTER = tl.constexpr(int(FloatParam.ENTER_BLEND))
_EXIT = tl.constexpr(int(FloatParam.EXIT_BLEND))


@triton.jit
def _bits(seed, position, word):
    """24 random bits; `word` may be a block."""
    s = seed.to(tl.uint64, bitcast=True)
    h = (s & 0xFFFFFFFF).to(tl.uint32) ^ (s >> 32).to(tl.uint32)
    h ^= position.to(tl.uint32)
    h = (h ^ (h >> 16)) * 0x85EBCA6B
    h = (h ^ (h >> 13)) * 0xC2B2AE35
    h ^= h >> 16
    h = h ^ word
    h = (h ^ (h >> 16)) * 0x85EBCA6B
    h = (h ^ (h >> 13)) * 0xC2B2AE35
    h ^= h >> 16
    return h >> 8


@triton.jit
def _gumbel(seed, position, ids):
    bits = _bits(seed, position, ids.to(tl.uint32)) >> 1
    u = (bits.to(tl.int32).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    # An approximate logarithm near 1 may be 0.
    return -tl.log(tl.maximum(-tl.log(u), 5.9604644775390625e-08))


@triton.jit
def first_of(values, is_wanted):
    """The value of the first lane of which something holds; 0 where it holds of none."""
    lanes = tl.arange(0, values.shape[0])
    first = tl.min(tl.where(is_wanted, lanes, values.shape[0]), axis=0)
    return tl.sum(tl.where(lanes == first, values, 0), axis=0)


@triton.jit
def _spread(top, n, t):
    """Entropy of softmax(z / T) over the best n candidates alone, over its maximum."""
    is_in = (tl.arange(0, top.shape[0]) < n) & (top > float("-inf"))
    first = tl.maximum(tl.max(top, axis=0), -3.0e38)
    x = tl.where(is_in, (top - first) / t, 0.0)
    e = tl.where(is_in, tl.exp(x), 0.0)
    total = tl.maximum(tl.sum(e, axis=0), 1e-30)
    entropy = tl.maximum(tl.log(total) - tl.sum(x * e, axis=0) / total, 0.0)
    return tl.where(n > 1, tl.minimum(entropy / tl.log(tl.maximum(n, 2).to(tl.float32)), 1.0), 0.0)


@triton.jit
def choose(policy, top, ids, keep, w, token, p_max, seed, position, ints_ptr, floats_ptr):
    """Whether the policy asks for a soft step, the token to record, and what to feed.

    The mixture has its components where `keep` holds, the best candidate in lane 0. What to feed
    is weights for them, and the id and weight of a term of the policy's own, -1 where it has none.
    """
    own = tl.full((), -1, tl.int32)
    own_weight = tl.zeros((), tl.float32)
    best = first_of(ids, keep).to(tl.int64)
    is_sure = p_max >= tl.load(floats_ptr + _TAU)
    u = _bits(seed, position, 0x9E3779B9).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
    soft = policy == _SOFT
    soft |= (policy == _ROUTER) & is_sure
    soft |= (policy == _RANDOM) & (u < tl.load(floats_ptr + _SHARE))
    hard = (policy == _ADAPTIVE) & is_sure
    picked = tl.where(soft | hard, best, token)
    if policy == _STOCHASTIC:
        log_w = tl.log(tl.where(keep, w, 1.0))
        noised = tl.where(keep, log_w + _gumbel(seed, position, ids), float("-inf"))
        highest = tl.maximum(tl.max(noised, axis=0), -3.0e38)  # finite, so that -inf - it is no NaN
        y = tl.exp((noised - highest) / tl.load(floats_ptr + _GUMBEL_T))
        w = y / tl.maximum(tl.sum(y, axis=0), 1e-30)
        picked = first_of(ids, noised == highest).to(tl.int64)
        soft = True
    if (policy == _MOI) | (policy == _SELAR):
        spread = _spread(top, tl.load(ints_ptr + _TOP_N), tl.load(floats_ptr + _T))
        if policy == _MOI:
            beta = tl.load(floats_ptr + _BETA)
            is_own = keep & (ids == token)
            own_weight = (beta + 1 - spread) / (beta + 1)
            w = spread * w / (beta + 1) + tl.where(is_own, own_weight, 0.0)
            own = tl.where(tl.max(is_own.to(tl.int32), axis=0) > 0, -1, token).to(tl.int32)
            soft = True
        else:
            push = tl.load(floats_ptr + _PUSH) * spread
            w = (1 + push) * w - tl.where(tl.arange(0, top.shape[0]) == 0, push, 0.0)
            soft = spread >= tl.load(floats_ptr + _GATE)
            picked = tl.where(soft, best, token)
    return soft, picked, w, own, own_weight


@triton.jit
def switch(entropy, position, reference, stay, switches, start, end, ints_ptr, floats_ptr):
    """`swi`: whether to feed a mixture, its share of the step, the anchor that has the rest, state'.

    `start` and `end` are the tokens of the markers; the anchor is -1 where the mixture has it all.
    """
    leaves = (stay < 0) & (entropy < reference)
    enters = (stay > 0) & (stay >= tl.load(ints_ptr + _WINDOW)) & (entropy > reference)
    soft = (stay <= 0) | enters
    turns = (stay == 0) | leaves | enters
    reference = tl.where(turns, entropy, reference)
    stays = tl.where(stay < 0, stay - 1, stay + 1)
    stay = tl.where(leaves, 1, tl.where(turns, -1, stays))
    switches += leaves.to(tl.int32)
    index = (position - tl.load(ints_ptr + _PROMPT)).to(tl.float32)
    done = tl.minimum(index / tl.load(ints_ptr + _MAX_TOKENS).to(tl.float32), 1.0)
    first = tl.where(leaves, tl.load(floats_ptr + _EXIT), tl.load(floats_ptr + _ENTER))
    share = tl.where(leaves | enters, first + (1 - first) * done, 1.0)
    anchor = tl.where(share < 1, tl.where(leaves, end, start), -1)
    return soft, share, anchor, reference, stay, switches
