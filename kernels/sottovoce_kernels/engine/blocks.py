"""CPU versions of the kernels that keep KV-cache block tables and map tokens to cache slots.

Their GPU originals are in `vllm.v1.worker.gpu.block_table`, `buffer_utils` and `v1.worker.utils`.
Tables of pointers, one int32 block table per KV-cache group, are read as raw addresses.
"""

import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat
from sottovoce_kernels.engine.jit import int32_at, njit


@njit()
def _write(
    num_writes: int,
    output: Array,
    stride: int,
    indices: Array,
    starts: Array,
    contents: Array,
    ends: Array,
) -> None:
    begin = 0
    for write in range(num_writes):
        end = ends[write]
        target = indices[write] * stride + starts[write]
        for i in range(end - begin):
            output[target + i] = contents[begin + i]
        begin = end


@njit()
def _write_groups(
    num_writes: int,
    addresses: Array,
    strides: Array,
    indices: Array,
    starts: Array,
    contents: Array,
    ends: Array,
    groups: Array,
) -> None:
    begin = 0
    for write in range(num_writes):
        end = ends[write]
        group = groups[write]
        target = indices[write] * strides[group] + starts[write]
        table = int32_at(addresses[group], target + end - begin)
        for i in range(end - begin):
            table[target + i] = contents[begin + i]
        begin = end


def apply_write(
    output: torch.Tensor,
    output_stride: torch.Tensor | int,
    write_indices: torch.Tensor,
    write_starts: torch.Tensor,
    write_contents: torch.Tensor,
    write_cu_lens: torch.Tensor,
    write_group_ids: torch.Tensor | None,
    *_options: int,
    grid: Grid,
) -> None:
    """Copy staged values to rows of one tensor, or of one int32 tensor per group, by address."""
    writes = (
        flat(write_indices),
        flat(write_starts),
        flat(write_contents),
        flat(write_cu_lens),
    )
    if write_group_ids is None:
        assert isinstance(output_stride, int)
        _write(grid[0], flat(output), output_stride, *writes)
    else:
        assert isinstance(output_stride, torch.Tensor)
        groups = flat(write_group_ids)
        _write_groups(grid[0], flat(output), flat(output_stride), *writes, groups)


@njit()
def _gather(
    num_groups: int,
    num_rows_padded: int,
    slots: Array,
    sources: Array,
    targets: Array,
    strides: Array,
    num_blocks: Array,
    num_blocks_stride: int,
    num_rows: int,
) -> None:
    for group in range(num_groups):
        stride = strides[group]
        for row in range(num_rows_padded):
            target = int32_at(targets[group], (row + 1) * stride)[row * stride :]
            slot = slots[row] if row < num_rows else -1
            if slot < 0:
                target[:] = 0
                continue
            source = int32_at(sources[group], (slot + 1) * stride)[slot * stride :]
            count = num_blocks[group * num_blocks_stride + slot]
            target[:count] = source[:count]


def gather_block_tables(
    idx_mapping: torch.Tensor,
    source_ptrs: torch.Tensor,
    target_ptrs: torch.Tensor,
    block_table_strides: torch.Tensor,
    num_blocks: torch.Tensor,
    num_blocks_stride: int,
    num_reqs: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Copy each batch row's block ids from its request's table; zero the padded rows."""
    _gather(
        grid[0],
        grid[1],
        flat(idx_mapping),
        flat(source_ptrs),
        flat(target_ptrs),
        flat(block_table_strides),
        flat(num_blocks),
        num_blocks_stride,
        num_reqs,
    )


@njit()
def _local_position(
    position: int, block_size: int, rank: int, size: int, interleave: int
) -> tuple[int, bool]:
    """Where a position lies among the blocks of this context-parallel rank, and whether it does."""
    virtual = block_size * size
    offset = position % virtual
    is_local = offset // interleave % size == rank
    rounds = offset // (interleave * size)
    local = rounds * interleave + offset % interleave
    return position // virtual * block_size + local, is_local


@njit()
def _slot_mappings(
    num_groups: int,
    num_rows: int,
    max_tokens: int,
    slots: Array,
    starts: Array,
    positions: Array,
    tables: Array,
    strides: Array,
    block_sizes: Array,
    enabled: Array,
    sharded: Array,
    mappings: Array,
    mappings_stride: int,
    rank: int,
    size: int,
    interleave: int,
    pad: int,
) -> None:
    for group in range(num_groups):
        mapping = mappings[group * mappings_stride : group * mappings_stride + max_tokens]
        mapping[starts[num_rows] :] = pad
        block_size = block_sizes[group]
        for row in range(num_rows):
            slot = slots[row]
            if slot < 0 or not enabled[group]:
                mapping[starts[row] : starts[row + 1]] = pad
                continue
            stride = strides[group]
            table = int32_at(tables[group], (slot + 1) * stride)[slot * stride :]
            for token in range(starts[row], starts[row + 1]):
                position = positions[token]
                is_local = True
                if size != 1 and sharded[group]:
                    position, is_local = _local_position(
                        position, block_size, rank, size, interleave
                    )
                block = position // block_size
                mapping[token] = (
                    table[block] * block_size + position % block_size if is_local else pad
                )


def compute_slot_mappings(
    max_num_tokens: int,
    idx_mapping: torch.Tensor,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    block_table_ptrs: torch.Tensor,
    block_table_strides: torch.Tensor,
    block_sizes: torch.Tensor,
    slot_mapping_enabled: torch.Tensor,
    dcp_sharded: torch.Tensor,
    slot_mappings: torch.Tensor,
    slot_mappings_stride: int,
    cp_rank: int,
    cp_size: int,
    cp_interleave: int,
    pad_id: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Find the KV-cache slot of every scheduled token in every group; pad the rest."""
    _slot_mappings(
        grid[0],
        grid[1] - 1,
        max_num_tokens,
        flat(idx_mapping),
        flat(query_start_loc),
        flat(positions),
        flat(block_table_ptrs),
        flat(block_table_strides),
        flat(block_sizes),
        flat(slot_mapping_enabled),
        flat(dcp_sharded),
        flat(slot_mappings),
        slot_mappings_stride,
        cp_rank,
        cp_size,
        cp_interleave,
        pad_id,
    )


@njit()
def _zero(
    num_blocks: int,
    num_segments: int,
    addresses: Array,
    strides: Array,
    sizes: Array,
    block_ids: Array,
) -> None:
    for i in range(num_blocks):
        for segment in range(num_segments):
            start = block_ids[i] * strides[segment]
            memory = int32_at(addresses[segment], start + sizes[segment])
            memory[start:] = 0


def zero_kv_blocks(
    segment_addresses: torch.Tensor,
    segment_block_strides: torch.Tensor,
    segment_page_sizes: torch.Tensor,
    block_ids: torch.Tensor,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Zero whole KV-cache blocks in every segment, by address; sizes count 4-byte words."""
    _zero(
        grid[0],
        grid[1],
        flat(segment_addresses),
        flat(segment_block_strides),
        flat(segment_page_sizes),
        flat(block_ids),
    )
