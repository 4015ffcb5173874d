"""CPU versions of the kernels that turn scheduler state into model inputs and back.

Their GPU originals are in `vllm.v1.worker.gpu.input_batch` and `mm.rope`; indices named `slot` are
rows of the persistent request state, those named `row` are rows of this step's batch.
"""

import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat
from sottovoce_kernels.engine.jit import njit


@njit()
def _prefill_inputs(
    num_rows: int,
    input_ids: Array,
    lookahead: Array,
    lookahead_stride: int,
    num_lookahead: int,
    slots: Array,
    starts: Array,
    token_ids: Array,
    token_stride: int,
    prefill_lens: Array,
    num_computed: Array,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        done = num_computed[slot]
        if done >= prefill_lens[slot]:
            continue
        request = token_ids[slot * token_stride : (slot + 1) * token_stride]
        length = starts[row + 1] - starts[row]
        input_ids[starts[row] : starts[row + 1]] = request[done : done + length]
        for ahead in range(num_lookahead):
            position = done + length + ahead
            token = request[position] if position < prefill_lens[slot] else 0
            lookahead[ahead * lookahead_stride + slot] = token


def prepare_prefill_inputs(
    input_ids: torch.Tensor,
    next_prefill_tokens: torch.Tensor,
    next_prefill_tokens_stride: int,
    num_lookahead: int,
    idx_mapping: torch.Tensor,
    query_start_loc: torch.Tensor,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    prefill_lens: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Copy each prefilling request's next tokens to `input_ids`, and look ahead past them."""
    _prefill_inputs(
        grid[0],
        flat(input_ids),
        flat(next_prefill_tokens),
        next_prefill_tokens_stride,
        num_lookahead,
        flat(idx_mapping),
        flat(query_start_loc),
        flat(all_token_ids),
        all_token_ids_stride,
        flat(prefill_lens),
        flat(num_computed_tokens),
    )


@njit()
def _pos_seq_lens(
    num_rows: int,
    positions: Array,
    seq_lens: Array,
    slots: Array,
    starts: Array,
    num_computed: Array,
    max_rows: int,
) -> None:
    for row in range(num_rows):
        done = num_computed[slots[row]]
        length = starts[row + 1] - starts[row]
        seq_lens[row] = done + length
        for i in range(length):
            positions[starts[row] + i] = done + i
    seq_lens[num_rows:max_rows] = 0


def prepare_pos_seq_lens(
    positions: torch.Tensor,
    seq_lens: torch.Tensor,
    idx_mapping: torch.Tensor,
    query_start_loc: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    max_num_reqs: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Number each scheduled token's position and each request's length; pad lengths with 0."""
    _pos_seq_lens(
        grid[0] - 1,
        flat(positions),
        flat(seq_lens),
        flat(idx_mapping),
        flat(query_start_loc),
        flat(num_computed_tokens),
        max_num_reqs,
    )


@njit()
def _combine(
    num_rows: int,
    input_ids: Array,
    slots: Array,
    last_sampled: Array,
    starts: Array,
    seq_lens: Array,
    prefill_lens: Array,
    drafts: Array,
    draft_stride: int,
    cu_num_logits: Array,
    logits_indices: Array,
    num_new: int,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        first = cu_num_logits[row]
        num_logits = cu_num_logits[row + 1] - first
        end = starts[row + 1]
        for i in range(num_logits):
            logits_indices[first + i] = end - num_logits + i
        if seq_lens[row] <= prefill_lens[slot]:
            continue
        if num_new > 0 and seq_lens[row] - num_logits >= prefill_lens[slot]:
            input_ids[end - num_logits] = last_sampled[slot]
        num_drafts = num_logits - num_new
        for i in range(num_drafts):
            input_ids[end - num_drafts + i] = drafts[slot * draft_stride + i]


def combine_sampled_and_draft_tokens(
    input_ids: torch.Tensor,
    idx_mapping: torch.Tensor,
    last_sampled_tokens: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens: torch.Tensor,
    prefill_len: torch.Tensor,
    draft_tokens: torch.Tensor,
    draft_tokens_stride: int,
    cu_num_logits: torch.Tensor,
    logits_indices: torch.Tensor,
    _block_size: int,
    num_new_sampled_tokens: int,
    *,
    grid: Grid,
) -> None:
    """Write last step's sampled and draft tokens to `input_ids`; list the rows that need logits."""
    _combine(
        grid[0],
        flat(input_ids),
        flat(idx_mapping),
        flat(last_sampled_tokens),
        flat(query_start_loc),
        flat(seq_lens),
        flat(prefill_len),
        flat(draft_tokens),
        draft_tokens_stride,
        flat(cu_num_logits),
        flat(logits_indices),
        num_new_sampled_tokens,
    )


@njit()
def _expand(
    num_rows: int, slots: Array, expanded: Array, local_pos: Array, cu_num_logits: Array
) -> None:
    for row in range(num_rows):
        first = cu_num_logits[row]
        for i in range(cu_num_logits[row + 1] - first):
            expanded[first + i] = slots[row]
            local_pos[first + i] = i


def expand_idx_mapping(
    idx_mapping: torch.Tensor,
    expanded_idx_mapping: torch.Tensor,
    expanded_local_pos: torch.Tensor,
    cu_num_logits: torch.Tensor,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Repeat each request's slot once per logits row, and number those rows."""
    _expand(
        grid[0],
        flat(idx_mapping),
        flat(expanded_idx_mapping),
        flat(expanded_local_pos),
        flat(cu_num_logits),
    )


@njit()
def _rope_positions(
    num_rows: int,
    positions: Array,
    stride: int,
    prefill: Array,
    prefill_stride0: int,
    prefill_stride1: int,
    deltas: Array,
    slots: Array,
    starts: Array,
    prefill_lens: Array,
    num_computed: Array,
    num_dims: int,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        done = num_computed[slot]
        is_prefill = done < prefill_lens[slot]
        for dim in range(num_dims):
            source = slot * prefill_stride0 + dim * prefill_stride1 + done
            target = dim * stride + starts[row]
            for i in range(starts[row + 1] - starts[row]):
                if is_prefill:
                    positions[target + i] = prefill[source + i]
                else:
                    positions[target + i] = done + i + deltas[slot]


def prepare_rope_positions(
    positions: torch.Tensor,
    positions_stride: int,
    prefill_positions: torch.Tensor,
    prefill_positions_stride0: int,
    prefill_positions_stride1: int,
    prefill_delta: torch.Tensor,
    idx_mapping: torch.Tensor,
    query_start_loc: torch.Tensor,
    prefill_lens: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    _block_size: int,
    num_dims: int,
    *,
    grid: Grid,
) -> None:
    """Fill multi-dimensional rotary positions: staged ones in prefill, shifted ones in decode."""
    _rope_positions(
        grid[0],
        flat(positions),
        positions_stride,
        flat(prefill_positions),
        prefill_positions_stride0,
        prefill_positions_stride1,
        flat(prefill_delta),
        flat(idx_mapping),
        flat(query_start_loc),
        flat(prefill_lens),
        flat(num_computed_tokens),
        num_dims,
    )
