"""How implementations see launch arguments: flat numpy views, indexed with the given strides.

A Triton kernel gets an address and strides. A flat view over the same memory keeps that contract,
and gives numba one signature for contiguous and sliced tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from sottovoce_kernels.engine.jit import float_of_bits, njit

Array: TypeAlias = npt.NDArray[Any]
Grid: TypeAlias = tuple[int, ...]
# A numpy float32 in compiled code; mypy knows no arithmetic that keeps to it.
Float32: TypeAlias = Any

NO_INTS: Array = np.zeros(1, dtype=np.int32)
_NO_FLOATS: Array = np.zeros(0, dtype=np.float32)
_NO_BITS: Array = np.zeros(0, dtype=np.int16)


def flat(tensor: torch.Tensor) -> Array:
    """View the memory from a tensor's first to its last element as one dimension; no copy."""
    if tensor.is_contiguous():
        array: Array = tensor.numpy()
        return array if array.ndim == 1 else array.reshape(-1)
    extent = 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.as_strided((extent,), (1,)).numpy()


def flat_or_none(tensor: torch.Tensor | None) -> Array:
    """View a tensor, or hand out a placeholder of the same type to numba where there is none."""
    return NO_INTS if tensor is None else flat(tensor)


def readable_rows(logits: torch.Tensor, stride: int) -> tuple[Array, Array, int]:
    """Give logits of any float type to `row_at`: float32 or bfloat16 bits, and their stride."""
    if logits.dtype is torch.float32:
        return flat(logits), _NO_BITS, stride
    if logits.dtype is torch.bfloat16:
        return _NO_FLOATS, flat(logits.view(torch.int16)), stride
    return flat(logits.float().contiguous()), _NO_BITS, logits.shape[-1]


@njit()
def row_at(floats: Array, bits: Array, start: int, scratch: Array) -> Array:
    """Give a row of logits as float32, in `scratch`, which has a row's length, if need be."""
    if bits.size == 0:
        return floats[start : start + scratch.size]
    row = bits[start : start + scratch.size]
    for i in range(row.size):
        scratch[i] = float_of_bits(np.int32(np.int32(row[i]) << np.int32(16)))
    return scratch


@contextmanager
def writable_rows(logits: torch.Tensor, stride: int) -> Iterator[tuple[Array, int]]:
    """Give logits as flat float32 and their row stride; changes go back in the logits' type."""
    if logits.dtype is torch.float32:
        yield flat(logits), stride
        return
    rows = logits.float().contiguous()
    yield flat(rows), rows.shape[-1]
    logits.copy_(rows)
