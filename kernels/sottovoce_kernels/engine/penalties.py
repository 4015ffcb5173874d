"""CPU versions of the kernels behind repetition, frequency and presence penalties.

Their GPU originals are in `vllm.v1.worker.gpu.sample.penalties`.
"""

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Float32, Grid, flat, writable_rows
from sottovoce_kernels.engine.jit import njit

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit()
def _penalise(
    row: Array,
    in_prompt: Array,
    counts: Array,
    repetition: Float32,
    frequency: Float32,
    presence: Float32,
) -> None:
    inverse = _ONE / repetition
    for token in range(row.size):
        count = counts[token]
        was_output = count > 0
        was_seen = was_output | ((in_prompt[token // 32] >> (token % 32)) & 1 != 0)
        factor = inverse if row[token] > 0 else repetition
        logit = row[token] * (factor if was_seen else _ONE)
        logit -= np.float32(frequency * np.float32(count))
        row[token] = logit - (presence if was_output else _ZERO)


@njit()
def _penalties(
    num_rows: int,
    logits: Array,
    stride: int,
    slots: Array,
    token_ids: Array,
    local_pos: Array,
    repetitions: Array,
    frequencies: Array,
    presences: Array,
    prompt_bits: Array,
    prompt_stride: int,
    counts: Array,
    counts_stride: int,
    vocab_size: int,
) -> None:
    for i in range(num_rows):
        slot = slots[i]
        repetition, frequency, presence = repetitions[slot], frequencies[slot], presences[slot]
        if repetition == 1.0 and frequency == 0.0 and presence == 0.0:
            continue
        row = logits[i * stride : i * stride + vocab_size]
        in_prompt = prompt_bits[slot * prompt_stride : (slot + 1) * prompt_stride]
        output_counts = counts[slot * counts_stride : slot * counts_stride + vocab_size]
        # The drafts before this row count as if generated, for the time of this row.
        first_draft = i - local_pos[i] + 1
        for j in range(local_pos[i]):
            output_counts[token_ids[first_draft + j]] += 1
        _penalise(row, in_prompt, output_counts, repetition, frequency, presence)
        for j in range(local_pos[i]):
            output_counts[token_ids[first_draft + j]] -= 1


def penalties(
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    token_ids: torch.Tensor,
    expanded_local_pos: torch.Tensor,
    repetition_penalty: torch.Tensor,
    frequency_penalty: torch.Tensor,
    presence_penalty: torch.Tensor,
    prompt_bin_mask: torch.Tensor,
    prompt_bin_mask_stride: int,
    output_bin_counts: torch.Tensor,
    output_bin_counts_stride: int,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Apply the three penalties to rows of logits `[B, V]` in place."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        _penalties(
            grid[0],
            rows,
            stride,
            flat(expanded_idx_mapping),
            flat(token_ids),
            flat(expanded_local_pos),
            flat(repetition_penalty),
            flat(frequency_penalty),
            flat(presence_penalty),
            flat(prompt_bin_mask),
            prompt_bin_mask_stride,
            flat(output_bin_counts),
            output_bin_counts_stride,
            vocab_size,
        )


@njit()
def _bincount(
    num_rows: int,
    slots: Array,
    token_ids: Array,
    token_stride: int,
    prompt_lens: Array,
    prefill_lens: Array,
    prompt_bits: Array,
    prompt_stride: int,
    counts: Array,
    counts_stride: int,
    max_len: int,
) -> None:
    for i in range(num_rows):
        slot = slots[i]
        length = min(prefill_lens[slot], max_len)
        request = token_ids[slot * token_stride : slot * token_stride + length]
        prompt_len = min(prompt_lens[slot], length)
        for token in request[:prompt_len]:
            prompt_bits[slot * prompt_stride + token // 32] |= np.int32(1 << (token % 32))
        for token in request[prompt_len:]:
            counts[slot * counts_stride + token] += 1


def bincount(
    expanded_idx_mapping: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    prompt_len: torch.Tensor,
    prefill_len: torch.Tensor,
    prompt_bin_mask: torch.Tensor,
    prompt_bin_mask_stride: int,
    output_bin_counts: torch.Tensor,
    output_bin_counts_stride: int,
    block_size: int,
    *,
    grid: Grid,
) -> None:
    """Note which tokens each request's prompt has, and count those it has generated."""
    _bincount(
        grid[0],
        flat(expanded_idx_mapping),
        flat(all_token_ids),
        all_token_ids_stride,
        flat(prompt_len),
        flat(prefill_len),
        flat(prompt_bin_mask),
        prompt_bin_mask_stride,
        flat(output_bin_counts),
        output_bin_counts_stride,
        grid[1] * block_size,
    )
