"""The mixture that every policy starts from, in Triton: the part of `decide` before the policy."""

from __future__ import annotations

import triton
import triton.language as tl

from .confidence import insert, nothing, pack, unpack_index, unpack_value
from .layout import FloatParam, IntParam

_TOP_N, _TOP_K = tl.constexpr(int(IntParam.TOP_N)), tl.constexpr(int(IntParam.TOP_K))
_NUM_STOPS = tl.constexpr(int(IntParam.NUM_STOP_IDS))
_VECTOR = tl.constexpr(int(IntParam.VECTOR_ROW))
_TOP_P, _MIN_P = tl.constexpr(int(FloatParam.TOP_P)), tl.constexpr(int(FloatParam.MIN_P))


@triton.jit
def merge(
    top_logits_ptr, top_ids_ptr, max_ptr, sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr, row, t,
    SPLITS: tl.constexpr, PADDED: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """Fold the splits of a row: candidates in order, sums, entropy."""
    lanes = tl.arange(0, PADDED * TOP)
    inside = lanes < SPLITS * TOP
    values = tl.load(top_logits_ptr + row * SPLITS * TOP + lanes, mask=inside, other=float("-inf"))
    ids = tl.load(top_ids_ptr + row * SPLITS * TOP + lanes, mask=inside, other=0)
    keys = pack(values, ids)
    if SPLITS > 1:
        # A split's list ends in equal (-inf, 0) keys, which no real key falls below.
        keys = tl.sort(insert(nothing(TOP), keys), descending=True)
    splits = tl.arange(0, PADDED)
    real = splits < SPLITS
    at = row * SPLITS + splits
    maxes = tl.load(max_ptr + at, mask=real, other=float("-inf"))
    live = maxes > float("-inf")
    top_max = tl.maximum(tl.max(maxes, axis=0), -3.0e38)  # finite, so that -inf - it is no NaN
    shift = tl.where(live, maxes - top_max, 0.0)
    x = shift / t
    raw = tl.load(sum_raw_ptr + at, mask=real & live, other=0.0)
    mix = tl.load(sum_mix_ptr + at, mask=real & live, other=0.0)
    xmix = tl.load(sum_xmix_ptr + at, mask=real & live, other=0.0)
    sum_raw = tl.sum(raw * tl.exp(shift), axis=0)
    sum_mix = tl.sum(mix * tl.exp(x), axis=0)
    sum_xmix = tl.sum(tl.exp(x) * (xmix + x * mix), axis=0)
    safe = tl.maximum(sum_mix, 1e-30)
    entropy = tl.where(sum_mix > 0, tl.maximum(tl.log(safe) - sum_xmix / safe, 0.0), 0.0)
    top = unpack_value(keys)
    top_ids = tl.where(top > float("-inf"), unpack_index(keys), 0)
    return top, top_ids, sum_raw, sum_mix, entropy


@triton.jit
def mixture(
    top, ids, sum_mix, t, ints_ptr, floats_ptr, stop_ids_ptr, special_ptr,
    TOP: tl.constexpr, STOPS: tl.constexpr,
):  # fmt: skip
    """The filters on softmax(z / T), renormalised: what is kept, and its weights.

    Of a mixture of the whole vocabulary they are a part, and not renormalised.
    """
    lanes = tl.arange(0, TOP)
    mass = tl.maximum(sum_mix, 1e-30)
    first = tl.maximum(tl.max(top, axis=0), -3.0e38)
    p = tl.where(top > float("-inf"), tl.exp((top - first) / t), 0.0) / mass
    top_k = tl.load(ints_ptr + _TOP_K)
    limit = tl.minimum(tl.where(top_k > 0, top_k, TOP), tl.load(ints_ptr + _TOP_N))
    keep = (lanes < limit) & (tl.cumsum(p, axis=0) - p < tl.load(floats_ptr + _TOP_P))
    keep &= p >= tl.load(floats_ptr + _MIN_P) * tl.max(p, axis=0)
    stop_lanes = tl.arange(0, STOPS)
    is_real = stop_lanes < tl.load(ints_ptr + _NUM_STOPS)
    stops = tl.load(stop_ids_ptr + stop_lanes, mask=is_real, other=-1)
    is_stop = tl.max((ids[:, None] == stops[None, :]).to(tl.int32), axis=1)
    banned = (tl.load(special_ptr + ids) != 0) | (is_stop != 0)
    keep = ((keep & (banned == 0)) | (lanes == 0)) & (p > 0)
    w = tl.where(keep, p, 0.0)
    is_part = tl.load(ints_ptr + _VECTOR) >= 0
    return keep, w / tl.where(is_part, 1.0, tl.maximum(tl.sum(w, axis=0), 1e-30))


@triton.jit
def is_banned(token, ints_ptr, stop_ids_ptr, special_ptr, STOPS: tl.constexpr):
    """Whether a token is special, or a stop token of the slot."""
    lanes = tl.arange(0, STOPS)
    is_real = lanes < tl.load(ints_ptr + _NUM_STOPS)
    stops = tl.load(stop_ids_ptr + lanes, mask=is_real, other=-1)
    is_stop = tl.max((stops == token).to(tl.int32), axis=0)
    return (tl.load(special_ptr + token) != 0) | (is_stop != 0)
