"""The bookkeeping kernels against vLLM's own: counts, history, replayed traces."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import MAX_LEN, MAX_SLOTS, batch, cumulative, generator, integers, poison

Compare = Callable[..., None]
ROWS = [1, 3, 16]


@pytest.mark.parametrize("num_rows", ROWS)
def test_get_num_sampled_and_rejected(compare: Compare, num_rows: int) -> None:
    source = generator(num_rows)
    scene = batch(source, num_rows)
    compare(
        "input_batch._get_num_sampled_and_rejected_kernel",
        (num_rows,),
        {
            "num_sampled_ptr": integers(source, 0, 4, num_rows),
            "num_rejected_ptr": poison(num_rows + 2),
            "seq_lens_ptr": scene.seq_lens,
            "cu_num_logits_ptr": cumulative(integers(source, 1, 5, num_rows)),
            "idx_mapping_ptr": scene.slots,
            "prefill_len_ptr": scene.prefill_lens,
        },
    )


@pytest.mark.parametrize("num_rows", ROWS)
@pytest.mark.parametrize("with_counts", [True, False])
@pytest.mark.parametrize("with_starts", [True, False])
def test_post_update(compare: Compare, num_rows: int, with_counts: bool, with_starts: bool) -> None:
    source = generator(num_rows)
    scene = batch(source, num_rows)
    slots = scene.slots.clone()
    slots[num_rows // 2 :: 5] = -1
    compare(
        "input_batch._post_update_kernel",
        (num_rows,),
        {
            "idx_mapping_ptr": slots,
            "num_computed_tokens_ptr": scene.num_computed,
            "last_sampled_tokens_ptr": poison(MAX_SLOTS, 1, dtype=torch.int64),
            "output_bin_counts_ptr": integers(source, 0, 3, MAX_SLOTS, 10) if with_counts else None,
            "output_bin_counts_stride": 10 if with_counts else 0,
            "sampled_tokens_ptr": integers(source, 0, 10, num_rows, 4, dtype=torch.int64),
            "sampled_tokens_stride": 4,
            "num_sampled_ptr": integers(source, 0, 5, num_rows),
            "num_rejected_ptr": integers(source, 0, 3, num_rows),
            "query_start_loc_ptr": scene.starts if with_starts else None,
            "all_token_ids_ptr": scene.token_ids,
            "all_token_ids_stride": MAX_LEN,
            "total_len_ptr": integers(source, 0, MAX_LEN - 8, MAX_SLOTS),
        },
    )


@pytest.mark.parametrize("num_rows", ROWS)
def test_post_update_num_computed_tokens(compare: Compare, num_rows: int) -> None:
    scene = batch(generator(num_rows), num_rows)
    compare(
        "input_batch._post_update_num_computed_tokens_kernel",
        (num_rows,),
        {
            "idx_mapping_ptr": scene.slots,
            "num_computed_tokens_ptr": scene.num_computed,
            "query_start_loc_ptr": scene.starts,
        },
    )


@pytest.mark.parametrize("num_rows", ROWS)
def test_trace_replay(compare: Compare, num_rows: int) -> None:
    source = generator(num_rows)
    scene = batch(source, num_rows)
    slots = scene.slots.clone()
    slots[num_rows // 2 :: 5] = -1
    compare(
        "sample.trace_replay._trace_replay_kernel",
        (num_rows,),
        {
            "sampled_ptr": poison(num_rows, dtype=torch.int64),
            "idx_mapping_ptr": slots,
            "trace_token_ids_ptr": scene.token_ids,
            "trace_token_ids_stride": MAX_LEN,
            "trace_len_ptr": integers(source, 0, 9, MAX_SLOTS),
            "total_len_ptr": integers(source, 18, 28, MAX_SLOTS),
            "prompt_len_ptr": torch.full((MAX_SLOTS,), 20, dtype=torch.int32),
        },
    )


@pytest.mark.parametrize("num_rows", ROWS)
def test_num_accepted(compare: Compare, num_rows: int) -> None:
    source = generator(num_rows)
    slots = batch(source, num_rows).slots
    slots[num_rows // 2 :: 5] = -1
    module = "model_states.mamba_hybrid"
    shared = {"idx_mapping_ptr": slots, "num_accepted_ptr": poison(MAX_SLOTS)}
    counts = integers(source, 0, 4, num_rows)
    compare(
        f"{module}._scatter_num_accepted_kernel", (num_rows,), {**shared, "num_sampled_ptr": counts}
    )
    compare(f"{module}._fill_num_accepted_kernel", (num_rows,), {**shared, "num_sampled": 3})
