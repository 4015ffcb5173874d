"""Lets Model Runner V2 run on a CPU, where no Triton backend is published.

vLLM's kernels get their numba versions from `sottovoce_kernels.engine`, or, with
TRITON_INTERPRET=1, Triton's own interpreter, which runs the GPU's code path slowly.
"""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType
from typing import Any

from sottovoce_kernels.engine import CPU_KERNELS, CpuTriton, apply_top_k_top_p

from .errors import PluginError
from .seam import after_import, wrap

_RUNNER_FLAG = "VLLM_USE_V2_MODEL_RUNNER"
_QUEUES = "vllm.distributed.device_communicators.shm_broadcast"
_NAP_S = 50e-6
_SHORT_WAIT_S = 1e-3
_IDLE_S = 1.0  # vLLM's own
_POLL_MS = 2  # what a lost notification costs at most
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


def _wait_asleep(module: ModuleType) -> None:
    """vLLM's processes wait for each other in a loop of sched_yield, on cores that a GPU's host has
    to spare. On a CPU the loop takes them from the model, and on two cores it kept the HTTP server
    from running for up to a second at a time. A short wait naps, for a nap ends sooner than a
    notification comes; a longer one waits for it, since a nap that ends for nothing interrupts the
    model. Notifications get lost, so none is waited for long until vLLM would call it idle.
    """

    def make(original: Any) -> Any:
        def wait(self: Any, timeout_ms: int | None = None) -> None:
            waited_s = time.monotonic() - self.last_read
            if waited_s <= _SHORT_WAIT_S:
                time.sleep(_NAP_S)
                return
            is_idle = waited_s > _IDLE_S
            self.busy_loop_s = 0.0  # or the original would spin
            original(self, timeout_ms if is_idle else _POLL_MS)

        return wait

    wrap(module.SpinCondition, "wait", make)


def install() -> None:
    """Make Model Runner V2 this CPU's default; VLLM_USE_V2_MODEL_RUNNER=0 leaves vLLM alone."""
    if os.environ.setdefault(_RUNNER_FLAG, "1") != "1":
        return
    after_import(_QUEUES, _wait_asleep)
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
