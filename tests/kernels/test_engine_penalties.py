"""Repetition, frequency and presence penalties against vLLM's own kernels."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import MAX_LEN, MAX_SLOTS, generator, integers, logits

Compare = Callable[..., None]


@pytest.mark.parametrize("vocab_size", [1, 63, 1000])
@pytest.mark.parametrize("num_drafts", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_penalties(compare: Compare, vocab_size: int, num_drafts: int, dtype: torch.dtype) -> None:
    source = generator(vocab_size)
    slots = torch.tensor([5, 0, 9, 2, 7]).repeat_interleave(num_drafts + 1).int()
    num_rows = slots.shape[0]
    values = logits(source, num_rows, vocab_size, dtype, padding=5)
    num_words = (vocab_size + 31) // 32
    repetition = torch.tensor([1.0, 1.3, 0.8, 1.0]).repeat(4)
    frequency = torch.tensor([0.0, 0.7, 0.0, -0.4, 0.2]).repeat(4)[:MAX_SLOTS].contiguous()
    presence = torch.tensor([0.0, 0.5, -1.1]).repeat(6)[:MAX_SLOTS].contiguous()
    counts = integers(source, 0, 4, MAX_SLOTS, vocab_size)
    compare(
        "sample.penalties._penalties_kernel",
        (num_rows, -(-vocab_size // 256)),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "expanded_idx_mapping_ptr": slots,
            "token_ids_ptr": integers(source, 0, vocab_size, num_rows),
            "expanded_local_pos_ptr": torch.arange(num_drafts + 1).repeat(5).int(),
            "repetition_penalty_ptr": repetition,
            "frequency_penalty_ptr": frequency,
            "presence_penalty_ptr": presence,
            "prompt_bin_mask_ptr": integers(source, -(2**31), 2**31, MAX_SLOTS, num_words),
            "prompt_bin_mask_stride": num_words,
            "output_bin_counts_ptr": counts * (counts > 1),
            "output_bin_counts_stride": vocab_size,
            "vocab_size": vocab_size,
            "BLOCK_SIZE": 256,
        },
    )


def test_bincount(compare: Compare) -> None:
    source = generator(0)
    prefill_lens = integers(source, 1, MAX_LEN, MAX_SLOTS)
    prompt_lens = (prefill_lens * torch.rand(MAX_SLOTS, generator=source)).int()
    prompt_lens[4] = prefill_lens[4]
    compare(
        "sample.penalties._bincount_kernel",
        (7, 6),
        {
            "expanded_idx_mapping_ptr": torch.randperm(MAX_SLOTS, generator=source)[:7],
            "all_token_ids_ptr": integers(source, 0, 70, MAX_SLOTS, MAX_LEN),
            "all_token_ids_stride": MAX_LEN,
            "prompt_len_ptr": prompt_lens,
            "prefill_len_ptr": prefill_lens,
            "prompt_bin_mask_ptr": torch.zeros(MAX_SLOTS, 3, dtype=torch.int32),
            "prompt_bin_mask_stride": 3,
            "output_bin_counts_ptr": torch.zeros(MAX_SLOTS, 70, dtype=torch.int32),
            "output_bin_counts_stride": 70,
            "BLOCK_SIZE": 16,
        },
    )
