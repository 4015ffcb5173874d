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

# Programs and their blocks, of which a measurement takes what is fastest at its size.
READS = [(programs, block) for block in (2048, 4096, 8192) for programs in (264, 528, 1056, 2112)]


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
        return torch.empty(max(programs for programs, _ in READS), device=device)
    return torch.empty(torch.get_num_threads(), dtype=torch.int32)


def read(values: torch.Tensor, out: torch.Tensor, how: tuple[int, int] = READS[0]) -> None:
    """Read a contiguous tensor once, with so many of a GPU's programs or all of torch's threads.

    On a CPU the values are float32, and their bits' maximum is taken.
    """
    if uses_triton(values.device):
        programs, block = how
        part: Any = triton.cdiv(triton.cdiv(values.numel(), programs), block) * block
        _read_kernel[(programs,)](values, out, values.numel(), part, BLOCK=block)
        return
    use_torch_threads()
    _read_bits(values.view(torch.int32).view(-1).numpy(), out.numpy())
