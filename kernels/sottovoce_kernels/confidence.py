"""`confidence`: one pass over the logits of thinking rows: partition sums, entropy, candidates.

The first kernel reads the logits, a row in several programs where the batch is small, and notes
the maximum of each group of them; the second looks into the groups that hold the best.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .backend import uses_triton
from .cpu.confidence import confidence_rows
from .engine.jit import use_torch_threads
from .layout import (
    MAX_LOGIT,
    MAX_TOP_N,
    Confidence,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Slots,
    State,
)

GROUP = 128  # values of which a warp takes the maximum
MAX_BLOCK = 1024  # values that a program reads at once
MAX_SPLITS = 64
NUM_PROGRAMS = 1056  # 8 for each multiprocessor of a big GPU
CHUNK = 128  # candidates that are sorted at once
NUM_WARPS = 4
SELECT_WARPS = 8
_MAX_LOGIT = tl.constexpr(MAX_LOGIT)
_LOWEST = tl.constexpr(-3.4028234663852886e38)  # the least finite float32
_LEAST = tl.constexpr(-(2**63) + 1)  # below every key
_NONE = tl.constexpr(int(Policy.NONE))
_THINK, _OVER = tl.constexpr(int(Phase.THINK)), tl.constexpr(int(Phase.OVER))
_POLICY = tl.constexpr(int(IntParam.POLICY))
_ALL = tl.constexpr(int(IntParam.ALL_PHASES))
_RAW = tl.constexpr(int(IntParam.RAW_CONFIDENCE))
_TEMPERATURE = tl.constexpr(int(FloatParam.TEMPERATURE))
_PHASE = tl.constexpr(int(State.PHASE))


@triton.jit
def pack(value, index):
    """Order-preserving int64 key of (value descending, index ascending)."""
    bits = value.to(tl.int32, bitcast=True)
    ordered = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).to(tl.int64)
    return (ordered << 32) | (index.to(tl.int64) ^ 0xFFFFFFFF)


@triton.jit
def unpack_value(key):
    """The value of a packed key."""
    ordered = (key >> 32).to(tl.int32)
    return tl.where(ordered >= 0, ordered, ordered ^ 0x7FFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def unpack_index(key):
    """The index of a packed key."""
    return ((key & 0xFFFFFFFF) ^ 0xFFFFFFFF).to(tl.int32)


@triton.jit
def _is_read(slot, ints_ptr, state_ptr, num_ints: tl.constexpr, num_state: tl.constexpr):
    """Whether a slot's policy looks at the logits in its phase."""
    policy = tl.load(ints_ptr + slot * num_ints + _POLICY)
    is_all = tl.load(ints_ptr + slot * num_ints + _ALL) == 1
    phase = tl.load(state_ptr + slot * num_state + _PHASE)
    return (policy != _NONE) & ((phase == _THINK) | (is_all & (phase != _OVER)))


@triton.jit
def _clean(z):
    # A negative zero, which would come after a positive one, becomes one.
    return tl.where(z == z, tl.minimum(z, _MAX_LOGIT) + 0.0, float("-inf"))


@triton.jit
def _rescale(low, high, per_t):
    """What sums over exponents of differences to `low` need in order to be to `high`."""
    # Where there is nothing yet to rescale; and -inf less -inf is no number.
    shift = tl.where(low > float("-inf"), low - tl.maximum(high, _LOWEST), 0.0)
    x_shift = tl.maximum(shift, -1.0e30) * per_t  # finite, so that 0 * it is 0
    return tl.exp(shift), x_shift, tl.exp(x_shift)


@triton.jit
def _sums_kernel(
    logits_ptr,  # [B, V]
    logits_stride,
    slot_ids_ptr,  # [B]
    ints_ptr,  # [slots, num_ints]
    floats_ptr,  # [slots, num_floats]
    state_ptr,  # [slots, num_state]
    maxima_ptr,  # [B, groups]
    sums_ptr,  # [B, splits, 4]: maximum, sum at 1, sum at T, its weighted by x
    vocab_size,
    split_size,
    num_groups,
    num_ints: tl.constexpr,
    num_floats: tl.constexpr,
    num_state: tl.constexpr,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    slot = tl.load(slot_ids_ptr + row)
    if _is_read(slot, ints_ptr, state_ptr, num_ints, num_state) == 0:
        return
    per_t = 1.0 / tl.load(floats_ptr + slot * num_floats + _TEMPERATURE)
    raw = tl.load(ints_ptr + slot * num_ints + _RAW)
    low = split * split_size
    high = tl.minimum(low + split_size, vocab_size)
    logits_ptr += row * logits_stride
    maxima_ptr += row * num_groups
    # A warp's group has a maximum and sums of its own, so that no two warps wait for each other.
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    sum_raw = tl.zeros((ROWS, GROUP), tl.float32)
    sum_mix = tl.zeros((ROWS, GROUP), tl.float32)
    sum_xmix = tl.zeros((ROWS, GROUP), tl.float32)
    groups = tl.arange(0, ROWS)
    lanes = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    ahead = tl.load(logits_ptr + low + lanes, mask=low + lanes < high, other=float("-inf"))
    for start in range(low, high, ROWS * GROUP):
        z = _clean(ahead.to(tl.float32))
        offs = start + ROWS * GROUP + lanes
        ahead = tl.load(logits_ptr + offs, mask=offs < high, other=float("-inf"))
        maxima = tl.max(z, axis=1)
        at = start // GROUP + groups
        tl.store(maxima_ptr + at, maxima, mask=at < num_groups)
        new_m = tl.maximum(m, maxima)
        scale, x_shift, x_scale = _rescale(m, new_m, per_t)
        m = new_m
        shifted = z - tl.maximum(m, _LOWEST)[:, None]  # finite, so that -inf less it is no NaN
        x = tl.maximum(shifted, -1.0e30) * per_t  # finite, so that 0 * x is 0
        e = tl.exp(x)
        sum_xmix = x_scale[:, None] * (sum_xmix + x_shift[:, None] * sum_mix) + x * e
        sum_mix = x_scale[:, None] * sum_mix + e
        if raw == 1:
            sum_raw = scale[:, None] * sum_raw + tl.exp(shifted)

    top = tl.max(m, axis=0)
    scale, x_shift, x_scale = _rescale(m, top, per_t)
    sum_xmix = x_scale[:, None] * (sum_xmix + x_shift[:, None] * sum_mix)
    sums_ptr += (row * tl.num_programs(1) + split) * 4
    tl.store(sums_ptr, top)
    tl.store(sums_ptr + 1, tl.sum(tl.sum(scale[:, None] * sum_raw, axis=1), axis=0))
    tl.store(sums_ptr + 2, tl.sum(tl.sum(x_scale[:, None] * sum_mix, axis=1), axis=0))
    tl.store(sums_ptr + 3, tl.sum(tl.sum(sum_xmix, axis=1), axis=0))


@triton.jit
def _best_groups(maxima_ptr, num_groups, TOP: tl.constexpr, GROUPS: tl.constexpr):
    """The TOP groups with the greatest maxima, the earlier of equal ones first, and the least maximum.

    No element elsewhere is among the row's best TOP: each of these groups holds one that precedes it.
    """
    lanes = tl.arange(0, GROUPS)
    maxima = tl.load(maxima_ptr + lanes, mask=lanes < num_groups, other=float("-inf"))
    keys = tl.topk(pack(maxima, lanes), TOP)
    values = unpack_value(keys)
    return tl.where(values > float("-inf"), unpack_index(keys), num_groups), tl.min(values, axis=0)


@triton.jit
def _best(keys, takes, pending_ptr, TOP: tl.constexpr, CHUNK: tl.constexpr):
    """The best TOP, in order, of those keys that `takes` picks, which are seldom many more."""
    takes = takes.to(tl.int32)
    place = tl.cumsum(takes, axis=0) - 1
    tl.store(pending_ptr + place, keys, mask=takes == 1)
    tl.debug_barrier()  # what other threads stored is read
    count = tl.sum(takes, axis=0)
    lanes = tl.arange(0, CHUNK)
    best = tl.topk(tl.load(pending_ptr + lanes, mask=lanes < count, other=_LEAST), TOP)
    for first in range(CHUNK, count, CHUNK):
        chunk = tl.load(pending_ptr + first + lanes, mask=first + lanes < count, other=_LEAST)
        both = tl.join(best, tl.topk(chunk, TOP))
        best = tl.topk(tl.reshape(both, (2 * TOP,)), TOP)
    return best


@triton.jit
def _store_total(sums_ptr, num_splits, per_t, outs, row, SPLITS: tl.constexpr):
    """Add up a row's splits."""
    sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr = outs
    splits = tl.arange(0, SPLITS)
    real = splits < num_splits
    sums_ptr += (row * num_splits + splits) * 4
    m = tl.load(sums_ptr, mask=real, other=float("-inf"))
    top = tl.max(m, axis=0)
    scale, x_shift, x_scale = _rescale(m, top, per_t)
    raw = tl.load(sums_ptr + 1, mask=real, other=0.0)
    mix = tl.load(sums_ptr + 2, mask=real, other=0.0)
    xmix = tl.load(sums_ptr + 3, mask=real, other=0.0)
    tl.store(sum_raw_ptr + row, tl.sum(scale * raw, axis=0))
    tl.store(sum_mix_ptr + row, tl.sum(x_scale * mix, axis=0))
    tl.store(sum_xmix_ptr + row, tl.sum(x_scale * (xmix + x_shift * mix), axis=0))


# A batch of one row has other splits than a full one: as a constant it would compile anew.
@triton.jit(do_not_specialize=["num_splits"])
def _select_kernel(
    logits_ptr,  # [B, V]
    logits_stride,
    slot_ids_ptr,  # [B]
    ints_ptr,
    floats_ptr,
    state_ptr,
    maxima_ptr,  # [B, groups]
    sums_ptr,  # [B, splits, 4]
    pending_ptr,  # [B, TOP * GROUP]
    top_logits_ptr,  # [B, TOP]
    top_ids_ptr,  # [B, TOP]
    sum_raw_ptr,  # [B], as are the other sums
    sum_mix_ptr,
    sum_xmix_ptr,
    vocab_size,
    num_groups,
    num_splits,
    num_ints: tl.constexpr,
    num_floats: tl.constexpr,
    num_state: tl.constexpr,
    TOP: tl.constexpr,
    GROUP: tl.constexpr,
    GROUPS: tl.constexpr,
    SPLITS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ids_ptr + row)
    if _is_read(slot, ints_ptr, state_ptr, num_ints, num_state) == 0:
        return
    per_t = 1.0 / tl.load(floats_ptr + slot * num_floats + _TEMPERATURE)
    outs = (sum_raw_ptr, sum_mix_ptr, sum_xmix_ptr)
    _store_total(sums_ptr, num_splits, per_t, outs, row, SPLITS)
    groups, bound = _best_groups(maxima_ptr + row * num_groups, num_groups, TOP, GROUPS)
    offs = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    z = tl.load(
        logits_ptr + row * logits_stride + offs, mask=offs < vocab_size, other=float("-inf")
    )
    z = tl.reshape(_clean(z.to(tl.float32)), (TOP * GROUP,))
    keys = pack(z, tl.reshape(offs, (TOP * GROUP,)))
    takes = (z >= bound) & (z > float("-inf"))
    best = _best(keys, takes, pending_ptr + row * (TOP * GROUP), TOP, CHUNK)
    values = unpack_value(best)
    is_live = best > _LEAST
    lanes = row * TOP + tl.arange(0, TOP)
    tl.store(top_logits_ptr + lanes, tl.where(is_live, values, float("-inf")))
    tl.store(top_ids_ptr + lanes, tl.where(is_live, unpack_index(best), 0))


def num_splits(num_rows: int, vocab_size: int) -> int:
    """How many programs share a row: enough to fill a big GPU, at least two blocks each."""
    most = min(NUM_PROGRAMS // max(num_rows, 1), vocab_size // (2 * MAX_BLOCK), MAX_SPLITS)
    return max(most, 1)


def confidence(logits: torch.Tensor, slot_ids: torch.Tensor, slots: Slots) -> Confidence:
    """See `reference.confidence`."""
    num_rows, vocab_size = logits.shape
    out = Confidence.empty(num_rows, logits.device)
    if not uses_triton(logits.device):
        use_torch_threads()
        confidence_rows(
            logits.float().numpy(), slot_ids.numpy(), slots.ints.numpy(), slots.floats.numpy(),
            slots.state.numpy(), out.top_logits.numpy(), out.top_ids.numpy(),
            out.sum_raw.numpy(), out.sum_mix.numpy(), out.sum_xmix.numpy(),
        )  # fmt: skip
        return out
    splits, groups = num_splits(num_rows, vocab_size), triton.cdiv(vocab_size, GROUP)
    block = max(GROUP, min(MAX_BLOCK, triton.next_power_of_2(vocab_size)))
    split_size = triton.cdiv(triton.cdiv(vocab_size, splits), block) * block
    splits = triton.cdiv(vocab_size, split_size)
    maxima = torch.empty(num_rows, groups, device=logits.device)
    sums = torch.empty(num_rows, splits, 4, device=logits.device)
    pending = torch.empty(num_rows, MAX_TOP_N * GROUP, dtype=torch.int64, device=logits.device)
    # A single row's own stride may be anything, and kernels are compiled for what divides it.
    stride = logits.stride(0) if num_rows > 1 else vocab_size
    read = (logits, stride, slot_ids, slots.ints, slots.floats, slots.state, maxima, sums)
    sizes = {
        "num_ints": slots.ints.shape[1], "num_floats": slots.floats.shape[1],
        "num_state": slots.state.shape[1],
    }  # fmt: skip
    _sums_kernel[(num_rows, splits)](
        *read, vocab_size, split_size, groups, **sizes, ROWS=block // GROUP, GROUP=GROUP,
        num_warps=NUM_WARPS,
    )  # fmt: skip
    _select_kernel[(num_rows,)](
        *read, pending, out.top_logits, out.top_ids, out.sum_raw, out.sum_mix,
        out.sum_xmix, vocab_size, groups, splits, **sizes, TOP=MAX_TOP_N, GROUP=GROUP,
        GROUPS=max(MAX_TOP_N, triton.next_power_of_2(groups)), SPLITS=MAX_SPLITS, CHUNK=CHUNK,
        num_warps=SELECT_WARPS,
    )  # fmt: skip
    return out
