"""The block-table kernels against vLLM's own: one and several groups, padding, sentinels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from engine_scenes import MAX_SLOTS, addresses, batch, cumulative, generator, integers, poison

from sottovoce_kernels.engine import CPU_KERNELS

Compare = Callable[..., None]
WIDTHS = [40, 7, 23]  # blocks a request may have, per group
BLOCK_SIZES = [4, 16, 5]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize("num_writes", [1, 9])
def test_apply_write(compare: Compare, dtype: torch.dtype, num_writes: int) -> None:
    source = generator(num_writes)
    ends = cumulative(integers(source, 0, 12, num_writes))[1:]
    compare(
        "buffer_utils._apply_write_kernel",
        (num_writes,),
        {
            "output_ptr": poison(MAX_SLOTS, 33, dtype=dtype),
            "output_stride": 33,
            "write_indices_ptr": torch.randperm(MAX_SLOTS, generator=source)[:num_writes].int(),
            "write_starts_ptr": integers(source, 0, 20, num_writes),
            "write_contents_ptr": integers(source, 0, 99, int(ends[-1]) + 1, dtype=dtype),
            "write_cu_lens_ptr": ends,
            "write_group_ids_ptr": None,
            "BLOCK_SIZE": 8,
            "MULTI_GROUP": False,
        },
    )


def test_apply_write_to_groups(compare: Compare) -> None:
    source = generator(0)
    groups = integers(source, 0, 3, 9)
    starts = integers(source, 0, 4, 9)
    ends = cumulative(integers(source, 0, 4, 9))[1:]
    compare(
        "buffer_utils._apply_write_kernel",
        (9,),
        {
            "output_ptr": [poison(MAX_SLOTS, width) for width in WIDTHS],
            "output_stride": torch.tensor(WIDTHS),
            "write_indices_ptr": torch.randperm(MAX_SLOTS, generator=source)[:9].int(),
            "write_starts_ptr": starts,
            "write_contents_ptr": integers(source, 0, 99, int(ends[-1])),
            "write_cu_lens_ptr": ends,
            "write_group_ids_ptr": groups,
            "BLOCK_SIZE": 8,
            "MULTI_GROUP": True,
        },
    )


@pytest.mark.parametrize("num_groups", [1, 3])
@pytest.mark.parametrize(("num_rows", "padded"), [(1, 1), (3, 8), (16, 16), (0, 2)])
def test_gather_block_tables(compare: Compare, num_groups: int, num_rows: int, padded: int) -> None:
    source = generator(num_rows)
    widths = WIDTHS[:num_groups]
    num_blocks = [integers(source, 0, width + 1, MAX_SLOTS) for width in widths]
    compare(
        "block_table._gather_block_tables_kernel",
        (num_groups, padded),
        {
            "batch_idx_to_req_idx": torch.randperm(MAX_SLOTS, generator=source)[:num_rows].int(),
            "src_block_table_ptrs": [integers(source, 0, 99, MAX_SLOTS, w) for w in widths],
            "dst_block_table_ptrs": [poison(MAX_SLOTS, width) for width in widths],
            "block_table_strides": torch.tensor(widths),
            "num_blocks_ptr": torch.stack(num_blocks),
            "num_blocks_stride": MAX_SLOTS,
            "num_reqs": num_rows,
            "BLOCK_SIZE": 8,
        },
    )


def slot_mapping_arguments(num_groups: int, num_rows: int) -> dict[str, Any]:
    source = generator(num_rows)
    scene = batch(source, num_rows)
    slots = scene.slots.clone()
    slots[num_rows // 2 :: 5] = -1
    max_tokens = scene.num_tokens + 6
    widths = WIDTHS[:num_groups]
    return {
        "max_num_tokens": max_tokens,
        "idx_mapping": slots,
        "query_start_loc": scene.starts,
        "pos": integers(source, 0, 28, max_tokens, dtype=torch.int64),
        "block_table_ptrs": [integers(source, 0, 99, MAX_SLOTS, width) for width in widths],
        "block_table_strides": torch.tensor(widths),
        "block_sizes": torch.tensor(BLOCK_SIZES[:num_groups], dtype=torch.int32),
        "slot_mapping_enabled": torch.tensor([True, True, False])[:num_groups],
        "dcp_sharded": torch.tensor([True, False, True])[:num_groups],
        "slot_mappings_ptr": poison(num_groups, max_tokens + 2, dtype=torch.int64),
        "slot_mappings_stride": max_tokens + 2,
        "cp_rank": 0,
        "CP_SIZE": 1,
        "CP_INTERLEAVE": 1,
        "PAD_ID": -1,
        "TRITON_BLOCK_SIZE": 8,
    }


@pytest.mark.parametrize("num_groups", [1, 3])
@pytest.mark.parametrize("num_rows", [1, 3, 16])
def test_compute_slot_mappings(compare: Compare, num_groups: int, num_rows: int) -> None:
    compare(
        "block_table._compute_slot_mappings_kernel",
        (num_groups, num_rows + 1),
        slot_mapping_arguments(num_groups, num_rows),
    )


@pytest.mark.parametrize(("size", "interleave"), [(2, 1), (3, 4)])
def test_slot_mappings_of_context_parallel_ranks(size: int, interleave: int) -> None:
    # The interpreter refuses this branch of vLLM's kernel ("mask has unsupported dtype"), so the
    # reference is the definition: ranks take turns, and each numbers its own positions from 0.
    length, block_size = 48, 4
    table = integers(generator(size), 0, 99, 1, length)
    owners = torch.arange(length) // interleave % size
    for rank in range(size):
        is_local = owners == rank
        local = is_local.cumsum(0) - 1
        slots = table[0, (local // block_size).clamp(min=0)].long() * block_size
        expected = torch.where(is_local, slots + local % block_size, -1)
        arguments = slot_mapping_arguments(1, 1) | {
            "max_num_tokens": length,
            "idx_mapping": torch.zeros(1, dtype=torch.int32),
            "query_start_loc": torch.tensor([0, length], dtype=torch.int32),
            "pos": torch.arange(length),
            "block_table_ptrs": addresses([table]),
            "block_table_strides": torch.tensor([length]),
            "block_sizes": torch.tensor([block_size], dtype=torch.int32),
            "slot_mappings_ptr": poison(1, length, dtype=torch.int64),
            "slot_mappings_stride": length,
            "cp_rank": rank,
            "CP_SIZE": size,
            "CP_INTERLEAVE": interleave,
        }
        CPU_KERNELS["vllm.v1.worker.gpu.block_table._compute_slot_mappings_kernel"](
            *arguments.values(), grid=(1, 2)
        )
        assert torch.equal(arguments["slot_mappings_ptr"][0], expected), f"rank {rank}"


def test_zero_kv_blocks(compare: Compare) -> None:
    compare(
        "vllm.v1.worker.utils._zero_kv_blocks_kernel",
        (2, 3, 3),
        {
            "seg_addrs_ptr": [poison(5, 24) for _ in range(3)],
            "seg_block_strides_ptr": torch.full((3,), 24),
            "seg_page_sizes_ptr": torch.tensor([24, 7, 16]),
            "block_ids_ptr": torch.tensor([3, 0]),
            "BLOCK_SIZE": 8,
        },
    )
