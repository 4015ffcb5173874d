"""Which implementation a device gets: Triton on a GPU or in its interpreter, numba on a CPU."""

from functools import cache

import torch
import triton


@cache  # Triton reads the environment each time
def uses_triton(device: torch.device) -> bool:
    """Whether ops on `device` launch Triton kernels (TRITON_INTERPRET=1 says so for a CPU)."""
    return device.type != "cpu" or bool(triton.knobs.runtime.interpret)
