"""Lets Model Runner V2 run on a CPU, where no Triton backend is published.

vLLM's kernels get their numba versions from `sottovoce_kernels.engine`, or, with
TRITON_INTERPRET=1, Triton's own interpreter, which runs the GPU's code path slowly.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from sottovoce_kernels.engine import CPU_KERNELS, CpuTriton, apply_top_k_top_p

from .errors import PluginError
from .seam import after_import

_RUNNER_FLAG = "VLLM_USE_V2_MODEL_RUNNER"
_TOP_K_TOP_P = "vllm.v1.sample.ops.topk_topp_sampler"


def _interprets() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def _replace_top_k_top_p(module: ModuleType) -> None:
    module.apply_top_k_top_p = apply_top_k_top_p  # type: ignore[attr-defined]


def _use_torch_top_k_top_p(module: ModuleType) -> None:
    # The interpreter cannot run vLLM's Triton kernel: plain numbers have no `.to` there.
    module.HAS_TRITON = False  # type: ignore[attr-defined]


def _put_triton(stand_in: ModuleType) -> None:
    """Give `stand_in` to every vLLM module that is going to ask for `triton`."""
    import triton.language
    import triton.language.extra.libdevice as libdevice
    import vllm.config.vllm
    import vllm.triton_utils
    import vllm.triton_utils.importing as importing

    early = [name for name in sys.modules if name.startswith("vllm.v1.worker.gpu.")]
    if early:
        raise PluginError(f"{early[0]} was imported before the plugin; load plugins first")
    vllm.triton_utils.triton = stand_in
    vllm.triton_utils.tl = triton.language
    vllm.triton_utils.tldevice = libdevice
    for module in (vllm.triton_utils, importing, vllm.config.vllm):
        module.HAS_TRITON = True


def install() -> None:
    """Make Model Runner V2 this CPU's default; VLLM_USE_V2_MODEL_RUNNER=0 leaves vLLM alone."""
    if os.environ.setdefault(_RUNNER_FLAG, "1") != "1":
        return
    import triton
    import vllm.triton_utils

    if isinstance(vllm.triton_utils.triton, CpuTriton) or vllm.triton_utils.HAS_TRITON:
        return
    if _interprets():
        _put_triton(triton)
        after_import(_TOP_K_TOP_P, _use_torch_top_k_top_p)
        return
    _put_triton(CpuTriton(CPU_KERNELS))
    after_import(_TOP_K_TOP_P, _replace_top_k_top_p)
