"""CPU versions of the kernels that record what a step produced: counts, lengths and token history.

Their GPU originals are in `vllm.v1.worker.gpu.input_batch`, `sample.trace_replay` and
`model_states.mamba_hybrid`.
"""

import torch

from sottovoce_kernels.engine.arrays import NO_INTS, Array, Grid, flat, flat_or_none
from sottovoce_kernels.engine.jit import njit


@njit()
def _count_sampled(
    num_rows: int,
    num_sampled: Array,
    num_rejected: Array,
    seq_lens: Array,
    cu_num_logits: Array,
    slots: Array,
    prefill_lens: Array,
) -> None:
    for row in range(num_rows):
        if seq_lens[row] < prefill_lens[slots[row]]:
            num_sampled[row] = 0
            num_rejected[row] = 0
        else:
            num_rejected[row] = cu_num_logits[row + 1] - cu_num_logits[row] - num_sampled[row]


def get_num_sampled_and_rejected(
    num_sampled: torch.Tensor,
    num_rejected: torch.Tensor,
    seq_lens: torch.Tensor,
    cu_num_logits: torch.Tensor,
    idx_mapping: torch.Tensor,
    prefill_len: torch.Tensor,
    *,
    grid: Grid,
) -> None:
    """Zero the counts of requests still in prefill; the rest of the others' logits are rejected."""
    _count_sampled(
        grid[0],
        flat(num_sampled),
        flat(num_rejected),
        flat(seq_lens),
        flat(cu_num_logits),
        flat(idx_mapping),
        flat(prefill_len),
    )


@njit()
def _post_update(
    num_rows: int,
    slots: Array,
    num_computed: Array,
    last_sampled: Array,
    has_counts: bool,
    counts: Array,
    counts_stride: int,
    sampled: Array,
    sampled_stride: int,
    num_sampled: Array,
    num_rejected: Array,
    has_starts: bool,
    starts: Array,
    token_ids: Array,
    token_stride: int,
    total_lens: Array,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        if slot < 0:
            continue
        length = total_lens[slot]
        for i in range(num_sampled[row]):
            token = sampled[row * sampled_stride + i]
            token_ids[slot * token_stride + length + i] = token
            last_sampled[slot] = token
            if has_counts:
                counts[slot * counts_stride + token] += 1
        if num_sampled[row] > 0:
            total_lens[slot] = length + num_sampled[row]
        query_len = starts[row + 1] - starts[row] if has_starts else 0
        num_computed[slot] += query_len - num_rejected[row]


def post_update(
    idx_mapping: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    last_sampled_tokens: torch.Tensor,
    output_bin_counts: torch.Tensor | None,
    output_bin_counts_stride: int,
    sampled_tokens: torch.Tensor,
    sampled_tokens_stride: int,
    num_sampled: torch.Tensor,
    num_rejected: torch.Tensor,
    query_start_loc: torch.Tensor | None,
    all_token_ids: torch.Tensor,
    all_token_ids_stride: int,
    total_len: torch.Tensor,
    *,
    grid: Grid,
) -> None:
    """Append sampled tokens to each request's history and advance its computed length."""
    _post_update(
        grid[0],
        flat(idx_mapping),
        flat(num_computed_tokens),
        flat(last_sampled_tokens),
        output_bin_counts is not None,
        flat_or_none(output_bin_counts),
        output_bin_counts_stride,
        flat(sampled_tokens),
        sampled_tokens_stride,
        flat(num_sampled),
        flat(num_rejected),
        query_start_loc is not None,
        flat_or_none(query_start_loc),
        flat(all_token_ids),
        all_token_ids_stride,
        flat(total_len),
    )


@njit()
def _advance(num_rows: int, slots: Array, num_computed: Array, starts: Array) -> None:
    for row in range(num_rows):
        num_computed[slots[row]] += starts[row + 1] - starts[row]


def post_update_num_computed_tokens(
    idx_mapping: torch.Tensor,
    num_computed_tokens: torch.Tensor,
    query_start_loc: torch.Tensor,
    *,
    grid: Grid,
) -> None:
    """Advance each request's computed length by what this step scheduled."""
    _advance(grid[0], flat(idx_mapping), flat(num_computed_tokens), flat(query_start_loc))


@njit()
def _replay(
    num_rows: int,
    sampled: Array,
    slots: Array,
    traces: Array,
    trace_stride: int,
    trace_lens: Array,
    total_lens: Array,
    prompt_lens: Array,
) -> None:
    for row in range(num_rows):
        slot = slots[row]
        if slot < 0:
            continue
        step = total_lens[slot] - prompt_lens[slot]
        if 0 <= step < trace_lens[slot]:
            sampled[row] = traces[slot * trace_stride + step]


def trace_replay(
    sampled: torch.Tensor,
    idx_mapping: torch.Tensor,
    trace_token_ids: torch.Tensor,
    trace_token_ids_stride: int,
    trace_len: torch.Tensor,
    total_len: torch.Tensor,
    prompt_len: torch.Tensor,
    *,
    grid: Grid,
) -> None:
    """Overwrite sampled tokens with those of a request's recorded trace, while it lasts."""
    _replay(
        grid[0],
        flat(sampled),
        flat(idx_mapping),
        flat(trace_token_ids),
        trace_token_ids_stride,
        flat(trace_len),
        flat(total_len),
        flat(prompt_len),
    )


@njit()
def _scatter_accepted(
    num_rows: int, slots: Array, has_counts: bool, num_sampled: Array, count: int, accepted: Array
) -> None:
    for row in range(num_rows):
        if slots[row] >= 0:
            accepted[slots[row]] = max(num_sampled[row], 1) if has_counts else count


def scatter_num_accepted(
    idx_mapping: torch.Tensor, num_sampled: torch.Tensor, num_accepted: torch.Tensor, *, grid: Grid
) -> None:
    """Record how many tokens each request's recurrent state advanced by, at least 1."""
    _scatter_accepted(grid[0], flat(idx_mapping), True, flat(num_sampled), 0, flat(num_accepted))


def fill_num_accepted(
    idx_mapping: torch.Tensor, num_accepted: torch.Tensor, num_sampled: int, *, grid: Grid
) -> None:
    """As `scatter_num_accepted`, with one count for all requests."""
    slots = flat(idx_mapping)
    _scatter_accepted(grid[0], slots, False, NO_INTS, num_sampled, flat(num_accepted))
