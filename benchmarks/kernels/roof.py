"""The roof of a routing step: reading the logits once, and doing next to nothing with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from sottovoce_kernels.backend import uses_triton
from sottovoce_kernels.engine.jit import njit, prange, use_torch_threads

BLOCK, NUM_PROGRAMS = 2048, 264


@triton.jit  # type: ignore[untyped-decorator]
def _read_kernel(values_ptr, out_ptr, size, part, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    program = tl.program_id(0).to(tl.int64)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    end = tl.minimum((program + 1) * part, size)
    for start in range(program * part, end, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        values = tl.load(values_ptr + offs, mask=offs < end, other=float("-inf"))
        best = tl.maximum(best, values.to(tl.float32))
    tl.store(out_ptr + program, tl.max(best, axis=0))


@njit(reorder=True, parallel=True)
def _read_bits(bits: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """A maximum of whole numbers, which vectorises where one of floats does not."""
    part = -(-bits.size // out.size)
    for thread in prange(out.size):
        best = np.int32(-(2**31))
        for value in bits[thread * part : (thread + 1) * part]:
            best = max(best, value)
        out[thread] = best


def new_output(device: torch.device) -> torch.Tensor:
    """What `read` writes its partial maxima to."""
    if uses_triton(device):
        return torch.empty(NUM_PROGRAMS, device=device)
    return torch.empty(torch.get_num_threads(), dtype=torch.int32)


def read(values: torch.Tensor, out: torch.Tensor) -> None:
    """Read a contiguous tensor once, with all of a GPU's programs or all of torch's threads.

    On a CPU the values are float32, and their bits' maximum is taken.
    """
    if uses_triton(values.device):
        part: Any = triton.cdiv(triton.cdiv(values.numel(), NUM_PROGRAMS), BLOCK) * BLOCK
        _read_kernel[(NUM_PROGRAMS,)](values, out, values.numel(), part, BLOCK=BLOCK)
        return
    use_torch_threads()
    _read_bits(values.view(torch.int32).view(-1).numpy(), out.numpy())
