"""`confidence`: one pass over the logits of thinking rows: partition sums, entropy, candidates.

A row is split over several programs when the batch is small; `decide` merges the splits.
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

MAX_BLOCK = 2048
MAX_SPLITS = 32
_MAX_LOGIT = tl.constexpr(MAX_LOGIT)
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
def nothing(TOP: tl.constexpr):
    """Distinct keys below every real one."""
    return pack(tl.full((TOP,), float("-inf"), tl.float32), 0x7FFFFFFF - tl.arange(0, TOP))


@triton.jit
def insert(best, keys):
    """Replace the worst of `best` by the best of `keys` while that helps.

    After the first blocks of a row few candidates enter, so most blocks cost two reductions.
    """
    floor = pack(tl.full((1,), float("-inf"), tl.float32), tl.zeros((1,), tl.int32))
    low = tl.maximum(tl.min(best, axis=0), tl.max(floor, axis=0))
    top = tl.max(keys, axis=0)
    while top > low:
        best = tl.where(best == tl.min(best, axis=0), top, best)
        keys = tl.where(keys == top, -0x7FFFFFFFFFFFFFFF, keys)
        low = tl.maximum(tl.min(best, axis=0), tl.max(floor, axis=0))
        top = tl.max(keys, axis=0)
    return best


@triton.jit
def _confidence_kernel(
    logits_ptr,  # [B, V]
    logits_stride,
    slot_ids_ptr,  # [B]
    ints_ptr,  # [slots, num_ints]
    floats_ptr,  # [slots, num_floats]
    state_ptr,  # [slots, num_state]
    top_logits_ptr,  # [B, splits, TOP]
    top_ids_ptr,  # [B, splits, TOP]
    max_ptr,  # [B, splits], as are the three sums
    sum_raw_ptr,
    sum_mix_ptr,
    sum_xmix_ptr,
    vocab_size,
    split_size,
    num_ints: tl.constexpr,
    num_floats: tl.constexpr,
    num_state: tl.constexpr,
    TOP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    slot = tl.load(slot_ids_ptr + row)
    if tl.load(ints_ptr + slot * num_ints + _POLICY) == _NONE:
        return
    phase = tl.load(state_ptr + slot * num_state + _PHASE)
    is_all = (tl.load(ints_ptr + slot * num_ints + _ALL) == 1) & (phase != _OVER)
    if (phase != _THINK) & (is_all == 0):
        return
    temperature = tl.load(floats_ptr + slot * num_floats + _TEMPERATURE)
    raw = tl.load(ints_ptr + slot * num_ints + _RAW)

    low = split * split_size
    high = tl.minimum(low + split_size, vocab_size)
    m = tl.full((), float("-inf"), tl.float32)
    sum_raw = tl.zeros((), tl.float32)
    sum_mix = tl.zeros((), tl.float32)
    sum_xmix = tl.zeros((), tl.float32)
    best = nothing(TOP)
    for start in range(low, high, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        z = tl.load(
            logits_ptr + row * logits_stride + offs, mask=offs < high, other=float("-inf")
        ).to(tl.float32)
        z = tl.where(z == z, tl.minimum(z, _MAX_LOGIT), float("-inf"))
        block_max = tl.max(z, axis=0)
        if block_max > float("-inf"):
            new_m = tl.maximum(m, block_max)
            # A first block has nothing to rescale, and -inf - x is not zero times anything.
            shift = tl.where(m > float("-inf"), m - new_m, 0.0)
            x_shift = shift / temperature
            sum_xmix = tl.exp(x_shift) * (sum_xmix + x_shift * sum_mix)
            sum_mix = tl.exp(x_shift) * sum_mix
            sum_raw = tl.exp(shift) * sum_raw
            x = tl.maximum((z - new_m) / temperature, -1.0e30)  # finite, so that 0 * x is 0
            e = tl.exp(x)
            sum_mix += tl.sum(e, axis=0)
            sum_xmix += tl.sum(x * e, axis=0)
            if raw == 1:
                sum_raw += tl.sum(tl.exp(z - new_m), axis=0)
            m = new_m
            best = insert(best, pack(z, offs))

    out = row * tl.num_programs(1) + split
    tl.store(max_ptr + out, m)
    tl.store(sum_raw_ptr + out, sum_raw)
    tl.store(sum_mix_ptr + out, sum_mix)
    tl.store(sum_xmix_ptr + out, sum_xmix)
    best = tl.sort(best, descending=True)
    values = unpack_value(best)
    ids = tl.where(values > float("-inf"), unpack_index(best), 0)
    lanes = tl.arange(0, TOP)
    tl.store(top_logits_ptr + out * TOP + lanes, values)
    tl.store(top_ids_ptr + out * TOP + lanes, ids)


def num_splits(num_rows: int, vocab_size: int, num_programs: int = 264) -> int:
    """How many programs share a row: enough to fill `num_programs`, at least a block each.

    A power of two, because `decide` is compiled for each number that there is.
    """
    most = min(num_programs // max(num_rows, 1), vocab_size // (2 * MAX_BLOCK), MAX_SPLITS)
    return 1 << (max(1, most).bit_length() - 1)


def confidence(logits: torch.Tensor, slot_ids: torch.Tensor, slots: Slots) -> Confidence:
    """See `reference.confidence`; on a GPU the result may hold several splits a row."""
    num_rows, vocab_size = logits.shape
    if not uses_triton(logits.device):
        out = Confidence.empty(num_rows, 1, logits.device)
        use_torch_threads()
        confidence_rows(
            logits.float().numpy(), slot_ids.numpy(), slots.ints.numpy(), slots.floats.numpy(),
            slots.state.numpy(), out.top_logits.numpy(), out.top_ids.numpy(), out.max.numpy(),
            out.sum_raw.numpy(), out.sum_mix.numpy(), out.sum_xmix.numpy(),
        )  # fmt: skip
        return out
    splits = num_splits(num_rows, vocab_size)
    out = Confidence.empty(num_rows, splits, logits.device)
    block = max(MAX_TOP_N, min(MAX_BLOCK, triton.next_power_of_2(vocab_size)))
    split_size = triton.cdiv(triton.cdiv(vocab_size, splits), block) * block
    _confidence_kernel[(num_rows, splits)](
        logits,
        logits.stride(0),
        slot_ids,
        slots.ints,
        slots.floats,
        slots.state,
        out.top_logits,
        out.top_ids,
        out.max,
        out.sum_raw,
        out.sum_mix,
        out.sum_xmix,
        vocab_size,
        split_size,
        num_ints=slots.ints.shape[1],
        num_floats=slots.floats.shape[1],
        num_state=slots.state.shape[1],
        TOP=MAX_TOP_N,
        BLOCK=block,
    )
    return out
