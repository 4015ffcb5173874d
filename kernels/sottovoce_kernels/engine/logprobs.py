"""CPU versions of the kernels that report log-probabilities, ranks and the ids they belong to.

Their GPU originals are in `vllm.v1.worker.gpu.sample.logprob`, `prompt_logprob` and `output`.
"""

import math

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat, readable_rows, row_at
from sottovoce_kernels.engine.jit import njit
from sottovoce_kernels.engine.rows import fill_chunk_maxima, num_chunks, sum_exp


@njit()
def _log_softmax_at(
    num_rows: int,
    output: Array,
    floats: Array,
    bits: Array,
    stride: int,
    ids: Array,
    ids_stride: int,
    num_ids: int,
    vocab_size: int,
) -> None:
    maxima = np.empty(num_chunks(vocab_size), dtype=np.float32)
    scratch = np.empty(vocab_size, dtype=np.float32)
    for i in range(num_rows):
        row = row_at(floats, bits, i * stride, scratch)
        highest = fill_chunk_maxima(row, maxima)
        log_mass = np.float32(math.log(sum_exp(row, highest)))
        for j in range(num_ids):
            output[i * num_ids + j] = row[ids[i * ids_stride + j]] - highest - log_mass


def topk_log_softmax(
    output: torch.Tensor,
    logits: torch.Tensor,
    logits_stride: int,
    topk_ids: torch.Tensor,
    topk_ids_stride: int,
    topk: int,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Write the log-probabilities of the given token ids `[B, n]`, from logits `[B, V]`."""
    rows = readable_rows(logits, logits_stride)
    ids = flat(topk_ids)
    _log_softmax_at(grid[0], flat(output), *rows, ids, topk_ids_stride, topk, vocab_size)


@njit()
def _count_at_least(
    num_rows: int,
    output: Array,
    floats: Array,
    bits: Array,
    stride: int,
    ids: Array,
    vocab_size: int,
) -> None:
    scratch = np.empty(vocab_size, dtype=np.float32)
    for i in range(num_rows):
        row = row_at(floats, bits, i * stride, scratch)
        logit = row[ids[i]]
        count = 0
        for token in range(row.size):
            count += row[token] >= logit
        output[i] = count


def ranks(
    output: torch.Tensor,
    logits: torch.Tensor,
    logits_stride: int,
    token_ids: torch.Tensor,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Write each token's rank in its row, counted from 1; equal logits share the lowest place."""
    rows = readable_rows(logits, logits_stride)
    _count_at_least(grid[0], flat(output), *rows, flat(token_ids), vocab_size)


@njit()
def _fill_ids(
    num_rows: int,
    out_ids: Array,
    out_stride: int,
    valid: Array,
    valid_stride: int,
    sampled: Array,
    topk: Array,
    topk_stride: int,
    slots: Array,
    num_custom: Array,
    custom: Array,
    custom_stride: int,
    num_topk: int,
) -> None:
    for i in range(num_rows):
        out_ids[i * out_stride] = sampled[i]
        valid[i * valid_stride] = True
        slot = slots[i]
        count = num_custom[slot] if num_custom[slot] > 0 else num_topk
        for j in range(count):
            if num_custom[slot] > 0:
                token = custom[slot * custom_stride + j]
            else:
                token = topk[i * topk_stride + j]
            out_ids[i * out_stride + 1 + j] = token
            valid[i * valid_stride + 1 + j] = True


def fill_logprob_token_ids(
    out_token_ids: torch.Tensor,
    out_token_ids_stride: int,
    out_valid_mask: torch.Tensor,
    out_valid_mask_stride: int,
    sampled_token_ids: torch.Tensor,
    topk_indices: torch.Tensor,
    topk_indices_stride: int,
    expanded_idx_mapping: torch.Tensor,
    num_per_req_token_ids: torch.Tensor,
    per_req_token_ids: torch.Tensor,
    per_req_token_ids_stride: int,
    num_topk: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """List the ids to report: the sampled one, then the request's own list or else the top k."""
    _fill_ids(
        grid[0],
        flat(out_token_ids),
        out_token_ids_stride,
        flat(out_valid_mask),
        out_valid_mask_stride,
        flat(sampled_token_ids),
        flat(topk_indices),
        topk_indices_stride,
        flat(expanded_idx_mapping),
        flat(num_per_req_token_ids),
        flat(per_req_token_ids),
        per_req_token_ids_stride,
        num_topk,
    )


@njit()
def _next_prompt_tokens(
    num_rows: int,
    output: Array,
    starts: Array,
    slots: Array,
    num_computed: Array,
    token_ids: Array,
    token_stride: int,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        source = slot * token_stride + num_computed[slot] + 1
        for i in range(starts[row + 1] - starts[row]):
            output[starts[row] + i] = token_ids[source + i]


def prompt_logprobs_token_ids(
    output: torch.Tensor,
    query_start_loc: torch.Tensor,
    idx_mapping: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """List the token that follows each scheduled prompt token, the one its logits predict."""
    _next_prompt_tokens(
        grid[0],
        flat(output),
        flat(query_start_loc),
        flat(idx_mapping),
        flat(num_computed_tokens),
        flat(all_token_ids),
        all_token_ids_stride,
    )


@njit()
def _support(
    num_rows: int,
    logits: Array,
    row_stride: int,
    column_stride: int,
    cu_num_logits: Array,
    num_sampled: Array,
    ids: Array,
    ids_stride: int,
    bits: Array,
    bits_stride: int,
    counts: Array,
    vocab_size: int,
    max_kept: int,
    rows_per_request: int,
) -> None:
    for i in range(num_rows):
        request, position = i // rows_per_request, i % rows_per_request
        counts[i] = 0
        if position >= num_sampled[request]:
            continue
        source = (cu_num_logits[request] + position) * row_stride
        bits[i * bits_stride : i * bits_stride + (vocab_size + 7) // 8] = 0
        for token in range(vocab_size):
            if not math.isfinite(logits[source + token * column_stride]):
                continue
            if counts[i] < max_kept:
                ids[i * ids_stride + counts[i]] = token
            bits[i * bits_stride + token // 8] |= np.uint8(1 << (token % 8))
            counts[i] += 1


def compact_sampling_mask(
    logits: torch.Tensor,
    logits_row_stride: int,
    logits_col_stride: int,
    cu_num_logits: torch.Tensor,
    num_sampled_tokens: torch.Tensor,
    token_ids: torch.Tensor,
    token_ids_row_stride: int,
    packed_mask: torch.Tensor,
    packed_mask_row_stride: int,
    counts: torch.Tensor,
    vocab_size: int,
    max_num_kept: int,
    rows_per_request: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """List the tokens each sampled row could have drawn: the first ids, their count, a bit mask."""
    if logits.dtype is not torch.float32:
        logits = logits.float()
        logits_row_stride, logits_col_stride = logits.stride()
    _support(
        grid[0],
        flat(logits),
        logits_row_stride,
        logits_col_stride,
        flat(cu_num_logits),
        flat(num_sampled_tokens),
        flat(token_ids),
        token_ids_row_stride,
        flat(packed_mask),
        packed_mask_row_stride,
        flat(counts),
        vocab_size,
        max_num_kept,
        rows_per_request,
    )
