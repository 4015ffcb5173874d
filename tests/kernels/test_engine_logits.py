"""Bias, bad words, grammar masks and NaN counts against vLLM's own kernels."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import MAX_LEN, MAX_SLOTS, cumulative, generator, integers, logits, poison

from sottovoce_kernels.engine import CPU_KERNELS

Compare = Callable[..., None]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NUM_ROWS = 12


def distinct_ids(source: torch.Generator, width: int, vocab_size: int) -> torch.Tensor:
    ids = [torch.randperm(vocab_size, generator=source)[:width] for _ in range(MAX_SLOTS)]
    return torch.stack(ids).int()


def limits(source: torch.Generator, vocab_size: int) -> dict[str, torch.Tensor]:
    """Draw allowed tokens, biases and stop tokens for every slot."""
    return {
        "num_allowed_token_ids_ptr": integers(source, 0, 9, MAX_SLOTS)
        * integers(source, 0, 2, MAX_SLOTS),
        "allowed_token_ids_ptr": distinct_ids(source, 9, vocab_size),
        "num_logit_bias_ptr": integers(source, 0, 7, MAX_SLOTS),
        "bias_token_ids_ptr": distinct_ids(source, 7, vocab_size),
        "bias_ptr": torch.randn(MAX_SLOTS, 7, generator=source),
        "pos_ptr": integers(source, 5, 12, NUM_ROWS, dtype=torch.int64),
        "min_lens_ptr": torch.full((MAX_SLOTS,), 11, dtype=torch.int32),
        "num_stop_token_ids_ptr": integers(source, 0, 5, MAX_SLOTS),
        "restore_when_all_masked_ptr": integers(source, 0, 2, MAX_SLOTS),
        "stop_token_ids_ptr": distinct_ids(source, 4, vocab_size),
    }


@pytest.mark.parametrize("vocab_size", [63, 1000])
@pytest.mark.parametrize("check_rows", [False, True])
@pytest.mark.parametrize("padding", [0, 5])
def test_bias(compare: Compare, vocab_size: int, check_rows: bool, padding: int) -> None:
    source = generator(vocab_size)
    values = logits(source, NUM_ROWS, vocab_size, padding=padding)
    slots = torch.randperm(MAX_SLOTS, generator=source)[:NUM_ROWS].int()
    drawn = limits(source, vocab_size)
    for row in range(4):  # nothing but stop tokens is left, as a grammar may leave it
        slot = slots[row].long()
        stops = drawn["stop_token_ids_ptr"][slot].long()
        values[row] = -float("inf")
        values[row, stops] = torch.tensor([1.0, -2.0, -float("inf"), 0.5])
        drawn["pos_ptr"][row] = 5
        drawn["num_allowed_token_ids_ptr"][slot] = 0
        drawn["num_stop_token_ids_ptr"][slot] = 4
        drawn["restore_when_all_masked_ptr"][slot] = row % 2
    compare(
        "sample.logit_bias._bias_kernel",
        (NUM_ROWS,),
        drawn
        | {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "vocab_size": vocab_size,
            "expanded_idx_mapping_ptr": slots,
            "allowed_token_ids_stride": 9,
            "bias_token_ids_stride": 7,
            "bias_stride": 7,
            "stop_token_ids_stride": 4,
            "BLOCK_SIZE": 16,
            "LOGITS_BLOCK_SIZE": 256,
            "CHECK_ALL_MASKED_ROWS": check_rows,
        },
    )


@pytest.mark.parametrize("num_drafts", [0, 2])
def test_bad_words(compare: Compare, num_drafts: int) -> None:
    source = generator(num_drafts)
    num_rows = 4 * (num_drafts + 1)
    values = logits(source, num_rows, 63, padding=5)
    prompt_lens = integers(source, 0, 40, MAX_SLOTS)
    lengths = integers(source, 0, 4, MAX_SLOTS, 6) + 1
    offsets = torch.cat([torch.zeros(MAX_SLOTS, 1, dtype=torch.int32), lengths.cumsum(1)], dim=1)
    compare(
        "sample.bad_words._bad_words_kernel",
        (num_rows, 6),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "expanded_idx_mapping_ptr": torch.tensor([5, 0, 9, 2])
            .repeat_interleave(num_drafts + 1)
            .int(),
            # Two distinct tokens, so that prefixes match often.
            "bad_word_token_ids_ptr": integers(source, 0, 2, MAX_SLOTS, 24),
            "bad_word_token_ids_stride": 24,
            "bad_word_offsets_ptr": offsets.int(),
            "bad_word_offsets_stride": 7,
            "num_bad_words_ptr": integers(source, 0, 7, MAX_SLOTS),
            "all_token_ids_ptr": integers(source, 0, 2, MAX_SLOTS, MAX_LEN),
            "all_token_ids_stride": MAX_LEN,
            "prompt_len_ptr": prompt_lens,
            "total_len_ptr": prompt_lens + integers(source, 0, 5, MAX_SLOTS),
            "input_ids_ptr": integers(source, 0, 2, num_rows),
            "expanded_local_pos_ptr": torch.arange(num_drafts + 1).repeat(4).int(),
        },
    )


@pytest.mark.parametrize("vocab_size", [1, 63, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows_per_request", [1, 3])
def test_apply_grammar_bitmask(
    compare: Compare, vocab_size: int, dtype: torch.dtype, rows_per_request: int
) -> None:
    source = generator(vocab_size)
    values = logits(source, 6, vocab_size, dtype, padding=5)
    num_words = (vocab_size + 31) // 32
    masks = integers(source, -(2**31), 2**31, 5, num_words)
    masks[0] = -1
    masks[1] = 0
    num_logits = torch.tensor([1, 2, 1, 2]) if rows_per_request > 1 else torch.ones(6)
    targets = torch.randperm(len(num_logits) * rows_per_request, generator=source)
    num_masks = min(5, len(targets))
    compare(
        "structured_outputs._apply_grammar_bitmask_kernel",
        (num_masks, -(-vocab_size // 256)),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "logits_indices_ptr": targets[:num_masks].int(),
            "cu_num_logits_ptr": cumulative(num_logits),
            "bitmask_ptr": masks,
            "bitmask_stride": num_words,
            "vocab_size": vocab_size,
            "MASK_STRIDE": rows_per_request,
            "BLOCK_SIZE": 256,
        },
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_num_nans(dtype: torch.dtype) -> None:
    # The interpreter has no libdevice.isnan, so the reference is the definition.
    values = logits(generator(0), 5, 1000, dtype, padding=5)
    values[1, ::7] = float("nan")
    values[3] = float("nan")
    output = poison(5)
    CPU_KERNELS["vllm.v1.worker.gpu.metrics.logits._num_nans_kernel"](
        values, values.stride(0), output, 1000, 256, grid=(5,)
    )
    assert output.tolist() == [0, 143, 0, 1000, 0]
