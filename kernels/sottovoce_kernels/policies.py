"""What each policy makes of a thinking step, in Triton: the part of `decide` that differs by policy."""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import FloatParam, Policy

_SOFT, _ROUTER = tl.constexpr(int(Policy.SOFT)), tl.constexpr(int(Policy.THINKROUTER))
_RANDOM, _ADAPTIVE = tl.constexpr(int(Policy.RANDOM)), tl.constexpr(int(Policy.ADAPTIVE_GREEDY))
_STOCHASTIC = tl.constexpr(int(Policy.STOCHASTIC))
_TAU, _SHARE = tl.constexpr(int(FloatParam.THRESHOLD)), tl.constexpr(int(FloatParam.SOFT_SHARE))
_GUMBEL_T = tl.constexpr(int(FloatParam.GUMBEL_TEMPERATURE))


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
def choose(policy, ids, keep, w, token, p_max, seed, position, floats_ptr):
    """Whether the policy asks for a soft step, the token to record, and the weights to feed.

    The mixture has its components where `keep` holds, the best candidate in lane 0.
    """
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
    return soft, picked, w
