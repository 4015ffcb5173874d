"""The input kernels against vLLM's own, over batches with empty queries and every phase."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import (
    MAX_LEN,
    MAX_SLOTS,
    Batch,
    batch,
    cumulative,
    generator,
    integers,
    poison,
)

Compare = Callable[..., None]


@pytest.fixture(params=[1, 3, 16])
def scene(request: pytest.FixtureRequest) -> Batch:
    return batch(generator(request.param), request.param)


@pytest.mark.parametrize("num_lookahead", [1, 3])
def test_prepare_prefill_inputs(compare: Compare, scene: Batch, num_lookahead: int) -> None:
    compare(
        "input_batch._prepare_prefill_inputs_kernel",
        (scene.num_rows,),
        {
            "input_ids_ptr": poison(scene.num_tokens + 5),
            "next_prefill_tokens_ptr": poison(num_lookahead, MAX_SLOTS),
            "next_prefill_tokens_stride": MAX_SLOTS,
            "num_lookahead": num_lookahead,
            "idx_mapping_ptr": scene.slots,
            "query_start_loc_ptr": scene.starts,
            "all_token_ids_ptr": scene.token_ids,
            "all_token_ids_stride": MAX_LEN,
            "prefill_lens_ptr": scene.prefill_lens,
            "num_computed_tokens_ptr": scene.num_computed,
            "BLOCK_SIZE": 16,
            "LOOKAHEAD_BLOCK": 4,
        },
    )


def test_prepare_pos_seq_lens(compare: Compare, scene: Batch) -> None:
    compare(
        "input_batch._prepare_pos_seq_lens_kernel",
        (scene.num_rows + 1,),
        {
            "pos_ptr": poison(scene.num_tokens + 5, dtype=torch.int64),
            "seq_lens_ptr": poison(MAX_SLOTS + 2),
            "idx_mapping_ptr": scene.slots,
            "query_start_loc_ptr": scene.starts,
            "num_computed_tokens_ptr": scene.num_computed,
            "max_num_reqs": MAX_SLOTS,
            "BLOCK_SIZE": 8,
        },
    )


@pytest.mark.parametrize("num_new", [0, 1])
@pytest.mark.parametrize("max_drafts", [0, 3])
def test_combine_sampled_and_draft_tokens(
    compare: Compare, scene: Batch, num_new: int, max_drafts: int
) -> None:
    source = generator(max_drafts)
    num_logits = integers(source, num_new, max_drafts + num_new + 1, scene.num_rows)
    num_logits = torch.minimum(num_logits, scene.query_lens)
    cu_num_logits = cumulative(num_logits)
    compare(
        "input_batch._combine_sampled_and_draft_tokens_kernel",
        (scene.num_rows,),
        {
            "input_ids_ptr": poison(scene.num_tokens + 5),
            "idx_mapping_ptr": scene.slots,
            "last_sampled_tokens_ptr": integers(source, 0, 1000, MAX_SLOTS, 1, dtype=torch.int64),
            "query_start_loc_ptr": scene.starts,
            "seq_lens_ptr": scene.seq_lens,
            "prefill_len_ptr": scene.prefill_lens,
            "draft_tokens_ptr": integers(source, 0, 1000, MAX_SLOTS, 5, dtype=torch.int64),
            "draft_tokens_stride": 5,
            "cu_num_logits_ptr": cu_num_logits,
            "logits_indices_ptr": poison(int(cu_num_logits[-1]) + 3, dtype=torch.int64),
            "BLOCK_SIZE": 4,
            "NUM_NEW_SAMPLED_TOKENS": num_new,
        },
    )


def test_expand_idx_mapping(compare: Compare, scene: Batch) -> None:
    cu_num_logits = cumulative(scene.query_lens % 4)
    compare(
        "input_batch._expand_idx_mapping_kernel",
        (scene.num_rows,),
        {
            "idx_mapping_ptr": scene.slots,
            "expanded_idx_mapping_ptr": poison(int(cu_num_logits[-1]) + 3),
            "expanded_local_pos_ptr": poison(int(cu_num_logits[-1]) + 3),
            "cu_num_logits_ptr": cu_num_logits,
            "BLOCK_SIZE": 4,
        },
    )


@pytest.mark.parametrize("num_dims", [3, 4])
def test_prepare_rope_positions(compare: Compare, scene: Batch, num_dims: int) -> None:
    source = generator(num_dims)
    width = scene.num_tokens + 5
    compare(
        "mm.rope._prepare_rope_positions_kernel",
        (scene.num_rows,),
        {
            "positions_ptr": poison(num_dims, width, dtype=torch.int64),
            "positions_stride": width,
            "prefill_positions_ptr": integers(source, 0, 1000, MAX_SLOTS * num_dims, MAX_LEN),
            "prefill_positions_stride0": num_dims * MAX_LEN,
            "prefill_positions_stride1": MAX_LEN,
            "prefill_delta_ptr": integers(source, -9, 9, MAX_SLOTS),
            "idx_mapping_ptr": scene.slots,
            "query_start_loc_ptr": scene.starts,
            "prefill_lens_ptr": scene.prefill_lens,
            "num_computed_tokens_ptr": scene.num_computed,
            "BLOCK_SIZE": 8,
            "NUM_DIMS": num_dims,
        },
    )
