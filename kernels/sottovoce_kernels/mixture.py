"""The mixture that every policy starts from, in Triton: the part of `decide` before the policy."""

from __future__ import annotations

import triton
import triton.language as tl

from .layout import FloatParam, IntParam

_TOP_N, _TOP_K = tl.constexpr(int(IntParam.TOP_N)), tl.constexpr(int(IntParam.TOP_K))
_NUM_STOPS = tl.constexpr(int(IntParam.NUM_STOP_IDS))
_VECTOR = tl.constexpr(int(IntParam.VECTOR_ROW))
_TOP_P, _MIN_P = tl.constexpr(int(FloatParam.TOP_P)), tl.constexpr(int(FloatParam.MIN_P))


@triton.jit
def load_confidence(
    top_logits_ptr, top_ids_ptr, sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr, row, TOP: tl.constexpr
):  # fmt: skip
    """A row's candidates in order, sums, entropy."""
    lanes = row * TOP + tl.arange(0, TOP)
    top, ids = tl.load(top_logits_ptr + lanes), tl.load(top_ids_ptr + lanes)
    sum_raw, sum_mix = tl.load(sum_raw_ptr + row), tl.load(sum_mix_ptr + row)
    safe = tl.maximum(sum_mix, 1e-30)
    entropy = tl.maximum(tl.log(safe) - tl.load(sum_xmix_ptr + row) / safe, 0.0)
    return top, ids, sum_raw, sum_mix, tl.where(sum_mix > 0, entropy, 0.0)


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
