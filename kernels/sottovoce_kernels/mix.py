"""`mix`: overwrite the soft rows of a batch's input embeddings with their weighted sums.

It reads the ledger, so a decode step and the replay of a preempted request are the same code.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .backend import uses_triton
from .cpu.mix import find_soft
from .layout import MAX_TERMS, IntParam, LedgerTensors, Policy, Slots

_NONE = tl.constexpr(int(Policy.NONE))
_POLICY, _WIDTH = tl.constexpr(int(IntParam.POLICY)), tl.constexpr(int(IntParam.WIDTH))
_VECTOR = tl.constexpr(int(IntParam.VECTOR_ROW))
_ROW, _PROMPT = tl.constexpr(int(IntParam.LEDGER_ROW)), tl.constexpr(int(IntParam.PROMPT_LEN))


@triton.jit
def _mix_kernel(
    embeds_ptr,  # [T, H]
    embeds_stride,
    table_ptr,  # [V', H]
    table_stride,
    slot_ids_ptr,  # [B]
    starts_ptr,  # [B + 1]
    positions_ptr,  # [T]
    ints_ptr,
    ids_ptr,  # [rows, entries]
    weights_ptr,
    entries_stride,
    counts_ptr,  # [rows, positions]
    counts_stride,
    vectors_ptr,  # [vectors + 1, H]
    scale,
    vocab_start,
    vocab_rows,
    hidden_size,
    num_ints: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    slot = tl.load(slot_ids_ptr + row)
    ints_ptr += slot * num_ints
    if tl.load(ints_ptr + _POLICY) == _NONE:
        return
    ledger_row = tl.load(ints_ptr + _ROW).to(tl.int64)
    width = tl.load(ints_ptr + _WIDTH)
    prompt_len = tl.load(ints_ptr + _PROMPT)
    start = tl.load(starts_ptr + row)
    end = tl.load(starts_ptr + row + 1)
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < hidden_size
    # A request's positions are consecutive, and its prompt holds no soft token.
    start += tl.maximum(prompt_len - tl.load(positions_ptr + start), 0).to(tl.int32)
    for t in range(start, end):
        index = tl.load(positions_ptr + t) - prompt_len
        # A dummy batch over a live slot has its position at 0, before what the ledger holds.
        count = tl.load(counts_ptr + ledger_row * counts_stride + index, mask=index >= 0, other=0)
        if count != 0:
            entry = ledger_row * entries_stride + index.to(tl.int64) * width
            total = tl.zeros((BLOCK,), tl.float32)
            for j in range(tl.abs(count)):
                token = tl.load(ids_ptr + entry + j).to(tl.int64) - vocab_start
                # A row of another rank's vocabulary shard reads nothing.
                readable = tl.where((token >= 0) & (token < vocab_rows), hidden_size, 0)
                weight = tl.load(weights_ptr + entry + j)
                values = tl.load(
                    table_ptr + token * table_stride + offs, mask=offs < readable, other=0.0
                )
                total += weight * values.to(tl.float32)
            total *= scale
            if count < 0:
                vector = tl.load(ints_ptr + _VECTOR).to(tl.int64) + index
                values = tl.load(vectors_ptr + vector * hidden_size + offs, mask=inside, other=0.0)
                total += (1 - tl.load(weights_ptr + entry)) * values.to(tl.float32)
            tl.store(
                embeds_ptr + tl.cast(t, tl.int64) * embeds_stride + offs,
                total.to(embeds_ptr.dtype.element_ty),
                mask=inside,
            )


def mix(
    embeds: torch.Tensor,
    table: torch.Tensor,
    slot_ids: torch.Tensor,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    scale: float = 1.0,
    vocab_start: int = 0,
) -> None:
    """See `reference.mix`."""
    num_rows, hidden_size = slot_ids.shape[0], embeds.shape[1]
    if not uses_triton(embeds.device):
        return _mix_cpu(
            embeds, table, slot_ids, query_start_loc, positions, slots, ledger, scale, vocab_start
        )
    block = min(triton.next_power_of_2(hidden_size), 1024)
    _mix_kernel[(num_rows, triton.cdiv(hidden_size, block))](
        embeds, embeds.stride(0), table, table.stride(0), slot_ids, query_start_loc, positions,
        slots.ints, ledger.ids, ledger.weights, ledger.ids.stride(0), ledger.counts,
        ledger.counts.stride(0), ledger.vectors, scale, vocab_start, table.shape[0], hidden_size,
        num_ints=slots.ints.shape[1], BLOCK=block,
    )  # fmt: skip
    return None


def _mix_cpu(
    embeds: torch.Tensor,
    table: torch.Tensor,
    slot_ids: torch.Tensor,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    scale: float,
    vocab_start: int,
) -> None:
    hits, vectors = torch.empty((2, embeds.shape[0]), dtype=torch.int64)
    shares = torch.empty(embeds.shape[0], dtype=torch.float32)
    ids = torch.empty((embeds.shape[0], MAX_TERMS), dtype=torch.int64)
    weights = torch.empty((embeds.shape[0], MAX_TERMS), dtype=torch.float32)
    n, widest, num_vectors = find_soft(
        slot_ids.numpy(), query_start_loc.numpy(), positions.numpy(), slots.ints.numpy(),
        ledger.ids.numpy(), ledger.weights.numpy(), ledger.counts.numpy(), vocab_start,
        table.shape[0], hits.numpy(), ids.numpy(), weights.numpy(), vectors.numpy(), shares.numpy(),
    )  # fmt: skip
    if n == 0:
        return
    rows = torch.embedding(table, ids[:n, :widest]).float()
    mixed = torch.bmm(weights[:n, None, :widest], rows)[:, 0]
    if scale != 1.0:
        mixed *= scale
    if num_vectors > 0:
        is_whole = vectors[:n] >= 0
        whole = ledger.vectors[vectors[:n][is_whole]].float()
        mixed[is_whole] += shares[:n][is_whole, None] * whole
    embeds.index_copy_(0, hits[:n], mixed.to(embeds.dtype))
