"""The thinking-budget kernels against vLLM's own, over histories dense with markers."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import MAX_LEN, MAX_SLOTS, generator, integers, logits

Compare = Callable[..., None]
# Markers over two tokens, so that they and their prefixes turn up often, and overlap.
MARKERS = [([0], [1], [1]), ([0, 1], [1, 1, 0], [1, 1, 0]), ([0, 0, 1], [1], [1, 0, 1, 1])]


def tensor(ids: list[int]) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int32)


@pytest.mark.parametrize(("start", "natural_end", "_end"), MARKERS)
@pytest.mark.parametrize("sparse", [False, True])
def test_update_committed_marker_cache(
    compare: Compare, start: list[int], natural_end: list[int], _end: list[int], sparse: bool
) -> None:
    source = generator(len(start))
    token_ids = integers(source, 0, 2, MAX_SLOTS, MAX_LEN)
    if sparse:
        token_ids[torch.rand(MAX_SLOTS, MAX_LEN, generator=source) < 0.8] = 5
    cold = integers(source, 0, 2, MAX_SLOTS).bool()
    compare(
        "sample.thinking_budget._update_committed_marker_cache_kernel",
        (MAX_SLOTS,),
        {
            "req_ids_ptr": torch.randperm(MAX_SLOTS, generator=source).int(),
            "thinking_token_budget_ptr": integers(source, -1, 3, MAX_SLOTS),
            "all_token_ids_ptr": token_ids,
            "all_token_ids_stride": MAX_LEN,
            "total_len_ptr": integers(source, 0, MAX_LEN + 1, MAX_SLOTS),
            "cached_last_start_ptr": integers(source, -1, 20, MAX_SLOTS).masked_fill(cold, -1),
            "cached_last_end_ptr": integers(source, -1, 20, MAX_SLOTS).masked_fill(cold, -1),
            "cached_scan_pos_ptr": integers(source, 0, MAX_LEN, MAX_SLOTS).masked_fill(cold, 0),
            "reasoning_start_token_ids_ptr": tensor(start),
            "natural_reasoning_end_token_ids_ptr": tensor(natural_end),
            "START_LEN": len(start),
            "NATURAL_END_LEN": len(natural_end),
            "MAX_LEN": max(len(start), len(natural_end)),
            "BLOCK": 8,
        },
    )


@pytest.mark.parametrize(("start", "natural_end", "end"), MARKERS)
@pytest.mark.parametrize("num_drafts", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thinking_budget(
    compare: Compare,
    start: list[int],
    natural_end: list[int],
    end: list[int],
    num_drafts: int,
    dtype: torch.dtype,
) -> None:
    source = generator(len(start) + num_drafts)
    slots = torch.randperm(MAX_SLOTS, generator=source).repeat_interleave(num_drafts + 1).int()
    values = logits(source, slots.shape[0], 63, dtype, padding=5)
    compare(
        "sample.thinking_budget._thinking_budget_kernel",
        (slots.shape[0],),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "expanded_idx_mapping_ptr": slots,
            "thinking_token_budget_ptr": integers(source, -1, 6, MAX_SLOTS),
            "all_token_ids_ptr": integers(source, 0, 2, MAX_SLOTS, MAX_LEN),
            "all_token_ids_stride": MAX_LEN,
            "total_len_ptr": integers(source, 0, 12, MAX_SLOTS),
            "input_ids_ptr": integers(source, 0, 2, slots.shape[0]),
            "expanded_local_pos_ptr": torch.arange(num_drafts + 1).repeat(MAX_SLOTS).int(),
            "cached_last_start_ptr": integers(source, -1, 8, MAX_SLOTS),
            "cached_last_end_ptr": integers(source, -1, 4, MAX_SLOTS),
            "reasoning_start_token_ids_ptr": tensor(start),
            "natural_reasoning_end_token_ids_ptr": tensor(natural_end),
            "reasoning_end_token_ids_ptr": tensor(end),
            "START_LEN": len(start),
            "NATURAL_END_LEN": len(natural_end),
            "END_LEN": len(end),
        },
    )
