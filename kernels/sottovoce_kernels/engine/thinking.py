"""CPU versions of the kernels that enforce a request's thinking-token budget.

Their GPU originals are in `vllm.v1.worker.gpu.sample.thinking_budget`.
"""

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat, writable_rows
from sottovoce_kernels.engine.jit import njit

_FORCED_LOGIT = np.float32(1.0e9)


@njit()
def _occurs(history: Array, at: int, marker: Array) -> bool:
    length = 0
    while length < marker.size and history[at + length] == marker[length]:
        length += 1
    return length == marker.size


@njit()
def _last_in_blocks(history: Array, start: Array, end: Array, block: int) -> tuple[int, int]:
    """Find the last start and end marker in the last block that has either, -1 for none."""
    high = history.size
    while high > 0:
        low = max(high - block, 0)
        last_start, last_end = -1, -1
        for at in range(low, high):
            if at + start.size <= history.size and _occurs(history, at, start):
                last_start = at
            if at + end.size <= history.size and _occurs(history, at, end):
                last_end = at
        if last_start >= 0 or last_end >= 0:
            return last_start, last_end
        high = low
    return -1, -1


@njit()
def _update_cache(
    num_rows: int,
    slots: Array,
    budgets: Array,
    token_ids: Array,
    token_stride: int,
    total_lens: Array,
    cached_start: Array,
    cached_end: Array,
    cached_scan: Array,
    start: Array,
    end: Array,
    max_len: int,
    block: int,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        if budgets[slot] < 0:
            continue
        total = total_lens[slot]
        history = token_ids[slot * token_stride : slot * token_stride + total]
        scan, last_start, last_end = cached_scan[slot], cached_start[slot], cached_end[slot]
        if scan > total:
            scan, last_start, last_end = 0, -1, -1
        if scan == 0 and last_start < 0 and last_end < 0:
            last_start, last_end = _last_in_blocks(history, start, end, block)
        else:
            for at in range(scan, total):
                if at + start.size <= total and _occurs(history, at, start):
                    last_start = at
                if at + end.size <= total and _occurs(history, at, end):
                    last_end = at
        cached_start[slot] = last_start
        cached_end[slot] = last_end
        cached_scan[slot] = max(total - (max_len - 1), 0)


def update_committed_marker_cache(
    req_ids: torch.Tensor,
    thinking_token_budget: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    total_len: torch.Tensor,
    cached_last_start: torch.Tensor,
    cached_last_end: torch.Tensor,
    cached_scan_pos: torch.Tensor,
    reasoning_start_token_ids: torch.Tensor,
    natural_reasoning_end_token_ids: torch.Tensor,
    start_len: int,
    natural_end_len: int,
    max_len: int,
    block: int,
    *,
    grid: Grid,
) -> None:
    """Remember where each budgeted request's last start and end markers are in its history."""
    _update_cache(
        grid[0],
        flat(req_ids),
        flat(thinking_token_budget),
        flat(all_token_ids),
        all_token_ids_stride,
        flat(total_len),
        flat(cached_last_start),
        flat(cached_last_end),
        flat(cached_scan_pos),
        flat(reasoning_start_token_ids)[:start_len],
        flat(natural_reasoning_end_token_ids)[:natural_end_len],
        max_len,
        block,
    )


@njit()
def _last_in_tail(history: Array, total: int, marker: Array, known: int) -> int:
    """Look for a later marker among those that end in the drafts, past the committed history."""
    for at in range(max(total - marker.size + 1, 0), history.size - marker.size + 1):
        if _occurs(history, at, marker):
            known = at
    return known


@njit()
def _forced_end(
    history: Array,
    total: int,
    budget: int,
    last_start: int,
    last_end: int,
    start: Array,
    natural_end: Array,
    end: Array,
) -> int:
    """Which token ends the thinking now, -1 if it may go on."""
    last_start = _last_in_tail(history, total, start, last_start)
    last_end = _last_in_tail(history, total, natural_end, last_end)
    if last_start < 0 or last_start <= last_end:
        return -1
    if history.size - (last_start + start.size) < budget:
        return -1
    done = 0
    for prefix in range(1, min(end.size - 1, history.size) + 1):
        if _occurs(history, history.size - prefix, end[:prefix]):
            done = prefix
    return int(end[done])


@njit()
def _force_ends(
    num_rows: int,
    logits: Array,
    stride: int,
    slots: Array,
    budgets: Array,
    token_ids: Array,
    token_stride: int,
    total_lens: Array,
    input_ids: Array,
    local_pos: Array,
    cached_start: Array,
    cached_end: Array,
    start: Array,
    natural_end: Array,
    end: Array,
) -> None:
    for i in range(num_rows):
        slot = slots[i]
        if budgets[slot] < 0:
            continue
        total, num_drafts = total_lens[slot], local_pos[i]
        history = token_ids[slot * token_stride : slot * token_stride + total]
        if num_drafts > 0:
            # Row 0 of a request holds its last committed token; the drafts follow it.
            first_draft = i - num_drafts + 1
            drafts = input_ids[first_draft : first_draft + num_drafts]
            history = np.concatenate((history, drafts.astype(history.dtype)))
        token = _forced_end(
            history,
            total,
            budgets[slot],
            cached_start[slot],
            cached_end[slot],
            start,
            natural_end,
            end,
        )
        if token >= 0:
            logits[i * stride + token] = _FORCED_LOGIT


def thinking_budget(
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    thinking_token_budget: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    total_len: torch.Tensor,
    input_ids: torch.Tensor,
    expanded_local_pos: torch.Tensor,
    cached_last_start: torch.Tensor,
    cached_last_end: torch.Tensor,
    reasoning_start_token_ids: torch.Tensor,
    natural_reasoning_end_token_ids: torch.Tensor,
    reasoning_end_token_ids: torch.Tensor,
    start_len: int,
    natural_end_len: int,
    end_len: int,
    *,
    grid: Grid,
) -> None:
    """Force the next token of the end marker on rows whose thinking has used up its budget."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        _force_ends(
            grid[0],
            rows,
            stride,
            flat(expanded_idx_mapping),
            flat(thinking_token_budget),
            flat(all_token_ids),
            all_token_ids_stride,
            flat(total_len),
            flat(input_ids),
            flat(expanded_local_pos),
            flat(cached_last_start),
            flat(cached_last_end),
            flat(reasoning_start_token_ids)[:start_len],
            flat(natural_reasoning_end_token_ids)[:natural_end_len],
            flat(reasoning_end_token_ids)[:end_len],
        )
