"""CPU versions of the kernels that edit logits by rule: bias, bad words, grammar; and count NaNs.

Their GPU originals are in `vllm.v1.worker.gpu.sample`, `structured_outputs` and `metrics.logits`.
"""

from typing import Any

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat, writable_rows
from sottovoce_kernels.engine.jit import njit

_NEGATIVE_INFINITY = np.float32(-np.inf)
# How -inf is written to logits that are seen as integers, by their type.
_NEGATIVE_INFINITY_BITS: dict[torch.dtype, tuple[torch.dtype, Any]] = {
    torch.float32: (torch.int32, np.int32(-0x00800000)),
    torch.bfloat16: (torch.int16, np.int16(-0x0080)),
    torch.float16: (torch.int16, np.int16(-0x0400)),
}


@njit()
def _allow_only(row: Array, ids: Array) -> None:
    kept = np.empty(ids.size, dtype=np.float32)
    for i in range(ids.size):
        kept[i] = row[ids[i]]
    row[:] = _NEGATIVE_INFINITY
    for i in range(ids.size):
        row[ids[i]] = kept[i]


@njit()
def _add(row: Array, ids: Array, bias: Array) -> None:
    # Sums of the values before, as on the GPU: an id listed twice gets its last bias only.
    sums = np.empty(ids.size, dtype=np.float32)
    for i in range(ids.size):
        sums[i] = row[ids[i]] + bias[i]
    for i in range(ids.size):
        row[ids[i]] = sums[i]


@njit()
def _forbid(row: Array, ids: Array, may_restore: bool) -> None:
    """Mask tokens; where that leaves a row with none at all, give back those that were finite."""
    kept = np.empty(ids.size, dtype=np.float32)
    for i in range(ids.size):
        kept[i] = row[ids[i]]
    for i in range(ids.size):
        row[ids[i]] = _NEGATIVE_INFINITY
    if not may_restore:
        return
    for token in range(row.size):
        if row[token] > _NEGATIVE_INFINITY:
            return
    for i in range(ids.size):
        if np.isfinite(kept[i]):
            row[ids[i]] = kept[i]


@njit()
def _bias(
    num_rows: int,
    logits: Array,
    stride: int,
    vocab_size: int,
    slots: Array,
    num_allowed: Array,
    allowed: Array,
    allowed_stride: int,
    num_biases: Array,
    bias_ids: Array,
    bias_ids_stride: int,
    biases: Array,
    biases_stride: int,
    positions: Array,
    min_lens: Array,
    num_stops: Array,
    may_restore: Array,
    stops: Array,
    stops_stride: int,
    check_rows: bool,
) -> None:
    for i in range(num_rows):
        slot = slots[i]
        row = logits[i * stride : i * stride + vocab_size]
        if num_allowed[slot] > 0:
            _allow_only(row, allowed[slot * allowed_stride :][: num_allowed[slot]])
        if num_biases[slot] > 0:
            ids = bias_ids[slot * bias_ids_stride :][: num_biases[slot]]
            _add(row, ids, biases[slot * biases_stride :][: num_biases[slot]])
        if num_stops[slot] > 0 and positions[i] + 1 < min_lens[slot]:
            ids = stops[slot * stops_stride :][: num_stops[slot]]
            _forbid(row, ids, check_rows and may_restore[slot] != 0)


def bias(
    logits: torch.Tensor,
    logits_stride: int,
    vocab_size: int,
    expanded_idx_mapping: torch.Tensor,
    num_allowed_token_ids: torch.Tensor,
    allowed_token_ids: torch.Tensor,
    allowed_token_ids_stride: int,
    num_logit_bias: torch.Tensor,
    bias_token_ids: torch.Tensor,
    bias_token_ids_stride: int,
    logit_bias: torch.Tensor,
    logit_bias_stride: int,
    pos: torch.Tensor,
    min_lens: torch.Tensor,
    num_stop_token_ids: torch.Tensor,
    restore_when_all_masked: torch.Tensor,
    stop_token_ids: torch.Tensor,
    stop_token_ids_stride: int,
    _block_size: int,
    _logits_block_size: int,
    check_all_masked_rows: bool,
    *,
    grid: Grid,
) -> None:
    """Apply allowed tokens, logit bias and the stop tokens' ban below the minimum length."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        allow = (flat(num_allowed_token_ids), flat(allowed_token_ids), allowed_token_ids_stride)
        ids = (flat(num_logit_bias), flat(bias_token_ids), bias_token_ids_stride)
        added = (flat(logit_bias), logit_bias_stride, flat(pos))
        limits = (flat(min_lens), flat(num_stop_token_ids), flat(restore_when_all_masked))
        stops = (flat(stop_token_ids), stop_token_ids_stride, check_all_masked_rows)
        row_args = (rows, stride, vocab_size, flat(expanded_idx_mapping))
        _bias(grid[0], *row_args, *allow, *ids, *added, *limits, *stops)


@njit()
def _bad_words(
    num_rows: int,
    logits: Array,
    stride: int,
    slots: Array,
    words: Array,
    words_stride: int,
    offsets: Array,
    offsets_stride: int,
    num_words: Array,
    token_ids: Array,
    token_stride: int,
    prompt_lens: Array,
    total_lens: Array,
    input_ids: Array,
    local_pos: Array,
) -> None:
    for i in range(num_rows):
        slot = slots[i]
        committed = total_lens[slot] - prompt_lens[slot]
        length = committed + local_pos[i]
        output = token_ids[slot * token_stride + prompt_lens[slot] :]
        # Row 0 of a request holds its last committed token; the drafts before this row follow it.
        drafts = input_ids[i - local_pos[i] + 1 :]
        for word in range(num_words[slot]):
            start = offsets[slot * offsets_stride + word]
            end = offsets[slot * offsets_stride + word + 1]
            tokens = words[slot * words_stride + start : slot * words_stride + end]
            prefix = tokens.size - 1
            if prefix > length:
                continue
            matches = True
            for j in range(prefix):
                at = length - prefix + j
                actual = output[at] if at < committed else drafts[at - committed]
                matches = matches and tokens[j] == actual
            if matches:
                logits[i * stride + tokens[prefix]] = _NEGATIVE_INFINITY


def bad_words(
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    bad_word_token_ids: torch.Tensor,
    bad_word_token_ids_stride: int,
    bad_word_offsets: torch.Tensor,
    bad_word_offsets_stride: int,
    num_bad_words: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    prompt_len: torch.Tensor,
    total_len: torch.Tensor,
    input_ids: torch.Tensor,
    expanded_local_pos: torch.Tensor,
    *,
    grid: Grid,
) -> None:
    """Mask the last token of every bad word whose other tokens were just generated."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        _bad_words(
            grid[0],
            rows,
            stride,
            flat(expanded_idx_mapping),
            flat(bad_word_token_ids),
            bad_word_token_ids_stride,
            flat(bad_word_offsets),
            bad_word_offsets_stride,
            flat(num_bad_words),
            flat(all_token_ids),
            all_token_ids_stride,
            flat(prompt_len),
            flat(total_len),
            flat(input_ids),
            flat(expanded_local_pos),
        )


@njit()
def _grammar(
    num_masks: int,
    logits: Array,
    stride: int,
    targets: Array,
    cu_num_logits: Array,
    masks: Array,
    masks_stride: int,
    vocab_size: int,
    rows_per_request: int,
    forbidden: int,
) -> None:
    for i in range(num_masks):
        request, position = targets[i] // rows_per_request, targets[i] % rows_per_request
        first = cu_num_logits[request]
        if position >= cu_num_logits[request + 1] - first:
            continue
        row = logits[(first + position) * stride :][:vocab_size]
        mask = masks[i * masks_stride : (i + 1) * masks_stride]
        for word in range((vocab_size + 31) // 32):
            # What the mask does not reach is not allowed.
            bits = mask[word] if word < mask.size else 0
            if bits == -1:
                continue
            part = row[word * 32 : (word + 1) * 32]
            for bit in range(part.size):
                if (bits >> bit) & 1 == 0:
                    part[bit] = forbidden


def apply_grammar_bitmask(
    logits: torch.Tensor,
    logits_stride: int,
    logits_indices: torch.Tensor,
    cu_num_logits: torch.Tensor,
    bitmask: torch.Tensor,
    bitmask_stride: int,
    vocab_size: int,
    mask_stride: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Mask the tokens that a request's grammar does not allow, in logits of any float type."""
    integer_type, forbidden = _NEGATIVE_INFINITY_BITS[logits.dtype]
    _grammar(
        grid[0],
        flat(logits.view(integer_type)),
        logits_stride,
        flat(logits_indices),
        flat(cu_num_logits),
        flat(bitmask),
        bitmask_stride,
        vocab_size,
        mask_stride,
        forbidden,
    )


def num_nans(
    logits: torch.Tensor,
    logits_stride: int,
    output: torch.Tensor,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Count the NaNs in each row of logits `[B, V]`."""
    rows = logits.as_strided((grid[0], vocab_size), (logits_stride, 1))
    output.copy_(rows.isnan().sum(dim=-1))
