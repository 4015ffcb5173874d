"""CPU versions of the kernels that reshape a distribution before sampling: temperature and min-p.

Their GPU originals are in `vllm.v1.worker.gpu.sample.gumbel` and `sample.min_p`.
"""

import math

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Grid, flat, writable_rows
from sottovoce_kernels.engine.jit import njit
from sottovoce_kernels.engine.rows import fill_chunk_maxima, num_chunks

_NEGATIVE_INFINITY = np.float32(-np.inf)


@njit()
def _divide(
    num_rows: int, logits: Array, stride: int, slots: Array, temperatures: Array, vocab_size: int
) -> None:
    for i in range(num_rows):
        temperature = np.float32(temperatures[slots[i]])
        if temperature == 0.0 or temperature == 1.0:
            continue
        row = logits[i * stride : i * stride + vocab_size]
        for token in range(row.size):
            row[token] = row[token] / temperature


def temperature(
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    temperatures: torch.Tensor,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Divide rows of logits `[B, V]` by their temperature, in place, except at 0 and 1."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        _divide(grid[0], rows, stride, flat(expanded_idx_mapping), flat(temperatures), vocab_size)


@njit()
def _mask_below(
    num_rows: int, logits: Array, stride: int, slots: Array, min_ps: Array, vocab_size: int
) -> None:
    maxima = np.empty(num_chunks(vocab_size), dtype=np.float32)
    for i in range(num_rows):
        min_p = np.float32(min_ps[slots[i]])
        if min_p == 0.0:
            continue
        row = logits[i * stride : i * stride + vocab_size]
        threshold = fill_chunk_maxima(row, maxima) + np.float32(math.log(min_p))
        for token in range(row.size):
            row[token] = _NEGATIVE_INFINITY if row[token] < threshold else row[token]


def min_p(
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    min_ps: torch.Tensor,
    vocab_size: int,
    *_block_sizes: int,
    grid: Grid,
) -> None:
    """Mask tokens less likely than min-p times the likeliest one, in place."""
    with writable_rows(logits, logits_stride) as (rows, stride):
        _mask_below(grid[0], rows, stride, flat(expanded_idx_mapping), flat(min_ps), vocab_size)
