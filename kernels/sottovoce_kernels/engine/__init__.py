"""CPU (numba) versions of the Triton kernels that vLLM's Model Runner V2 launches."""

from sottovoce_kernels.engine.filters import apply_top_k_top_p
from sottovoce_kernels.engine.shim import CpuTriton, MissingKernelError
from sottovoce_kernels.engine.table import CPU_KERNELS

__all__ = ["CPU_KERNELS", "CpuTriton", "MissingKernelError", "apply_top_k_top_p"]
