"""Log-probabilities, ranks and sampling masks against vLLM's own kernels."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import MAX_LEN, MAX_SLOTS, batch, generator, integers, logits, poison

from sottovoce_kernels.engine import CPU_KERNELS

Compare = Callable[..., None]
SHAPES = [(1, 1), (3, 63), (7, 1000)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Sums of exponentials in another order and by another polynomial, then float32 logarithms.
LOGPROB_TOLERANCE = 4e-6


@pytest.mark.parametrize(("num_rows", "vocab_size"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("topk", [1, 21])
def test_topk_log_softmax(
    compare: Compare, num_rows: int, vocab_size: int, dtype: torch.dtype, topk: int
) -> None:
    source = generator(vocab_size)
    values = logits(source, num_rows, vocab_size, dtype, padding=5)
    compare(
        "sample.logprob._topk_log_softmax_kernel",
        (num_rows,),
        {
            "output_ptr": poison(num_rows, topk, dtype=torch.float32),
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "topk_ids_ptr": integers(source, 0, vocab_size, num_rows, topk, dtype=torch.int64),
            "topk_ids_stride": topk,
            "topk": topk,
            "vocab_size": vocab_size,
            "BLOCK_SIZE": 256,
            "TOPK_BLOCK_SIZE": 8,
        },
        output_ptr=LOGPROB_TOLERANCE,
    )


@pytest.mark.parametrize(("num_rows", "vocab_size"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ranks(compare: Compare, num_rows: int, vocab_size: int, dtype: torch.dtype) -> None:
    source = generator(vocab_size)
    values = logits(source, num_rows, vocab_size, dtype, padding=5)
    compare(
        "sample.logprob._ranks_kernel",
        (num_rows,),
        {
            "output_ptr": poison(num_rows, dtype=torch.int64),
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            # Not one at -inf: vLLM's kernel counts its last block's padding among the equals.
            "token_ids_ptr": values.float().topk(min(3, vocab_size)).indices[:, -1].contiguous(),
            "vocab_size": vocab_size,
            "BLOCK_SIZE": 256,
        },
    )


def test_ranks_of_bfloat16_logits() -> None:
    # The interpreter compares bfloat16 values by their bits, so the reference is the definition.
    values = logits(generator(0), 7, 1000, torch.bfloat16, padding=5)
    token_ids = torch.arange(7) * 100
    output = poison(7, dtype=torch.int64)
    CPU_KERNELS["vllm.v1.worker.gpu.sample.logprob._ranks_kernel"](
        output, values, values.stride(0), token_ids, 1000, 256, grid=(7,)
    )
    assert torch.equal(output, (values >= values.gather(1, token_ids[:, None])).sum(dim=1))


@pytest.mark.parametrize("num_topk", [0, 3])
def test_fill_logprob_token_ids(compare: Compare, num_topk: int) -> None:
    source = generator(num_topk)
    compare(
        "sample.logprob._fill_logprob_token_ids_kernel",
        (5,),
        {
            "out_token_ids_ptr": torch.zeros(5, 7, dtype=torch.int64),
            "out_token_ids_stride": 7,
            "out_valid_mask_ptr": torch.zeros(5, 7, dtype=torch.bool),
            "out_valid_mask_stride": 7,
            "sampled_token_ids_ptr": integers(source, 0, 99, 5, dtype=torch.int64),
            "topk_indices_ptr": integers(source, 0, 99, 5, max(num_topk, 1)),
            "topk_indices_stride": max(num_topk, 1),
            "expanded_idx_mapping_ptr": torch.tensor([3, 0, 1, 7, 5], dtype=torch.int32),
            "num_per_req_token_ids_ptr": torch.tensor([0, 6, 0, 2, 0, 0, 0, 1]).int(),
            "per_req_token_ids_ptr": integers(source, 100, 199, 8, 9),
            "per_req_token_ids_stride": 9,
            "NUM_TOPK": num_topk,
            "PADDED_COLS": 8,
        },
    )


@pytest.mark.parametrize("num_rows", [1, 3, 16])
def test_prompt_logprobs_token_ids(compare: Compare, num_rows: int) -> None:
    scene = batch(generator(num_rows), num_rows)
    compare(
        "sample.prompt_logprob._prompt_logprobs_token_ids_kernel",
        (num_rows,),
        {
            "prompt_logprobs_token_ids_ptr": poison(scene.num_tokens + 3, dtype=torch.int64),
            "query_start_loc_ptr": scene.starts,
            "idx_mapping_ptr": scene.slots,
            "num_computed_tokens_ptr": scene.num_computed,
            "all_token_ids_ptr": scene.token_ids,
            "all_token_ids_stride": MAX_LEN,
            "BLOCK_SIZE": 8,
        },
    )
    assert scene.num_rows <= MAX_SLOTS


@pytest.mark.parametrize("vocab_size", [1, 63, 1000])
@pytest.mark.parametrize("rows_per_request", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_compact_sampling_mask(
    compare: Compare, vocab_size: int, rows_per_request: int, transposed: bool
) -> None:
    values = logits(generator(vocab_size), 6, vocab_size, padding=5)
    values[0, 0] = float("inf")
    values[2] = -float("inf")
    if transposed:
        values = values.t().contiguous().t()
    num_bytes = (vocab_size + 7) // 8
    compare(
        "sample.output._compact_sampling_mask_kernel",
        (3 * rows_per_request,),
        {
            "logits_ptr": values,
            "logits_row_stride": values.stride(0),
            "logits_col_stride": values.stride(1),
            "cu_num_logits_ptr": torch.tensor([0, 2, 4, 6], dtype=torch.int32),
            "num_sampled_tokens_ptr": torch.tensor([2, 0, 1], dtype=torch.int32),
            "token_ids_ptr": poison(3 * rows_per_request, 20),
            "token_ids_row_stride": 20,
            "packed_mask_ptr": torch.full((3 * rows_per_request, num_bytes), 7, dtype=torch.uint8),
            "packed_mask_row_stride": num_bytes,
            "counts_ptr": poison(3 * rows_per_request),
            "vocab_size": vocab_size,
            "max_num_kept": 20,
            "ROWS_PER_REQUEST": rows_per_request,
            "BLOCK_SIZE": 256,
        },
    )
