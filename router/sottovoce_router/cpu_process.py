"""On a CPU, the model of an unsharded engine runs in the engine's own process.

vLLM gives it a process of its own there, because OpenMP's threads can be bound at a process's start
only. The two then wait for each other in a loop of `sched_yield`, on the cores that the model needs.
Here the engine's process starts with OpenMP's settings instead, and nothing waits in a loop.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .seam import after_import, wrap

_PLATFORM = "vllm.platforms.cpu"
_ENGINES = "vllm.v1.engine.utils"
_SAME_PROCESS = "uni"


def _keep_same_process(module: ModuleType) -> None:
    """`CpuPlatform.check_and_update_config` turns the executor `uni` into `mp`; turn it back."""

    def make(original: Any) -> Any:
        def check_and_update_config(cls: Any, vllm_config: Any) -> None:
            parallel = vllm_config.parallel_config
            asked = parallel.distributed_executor_backend
            original(cls, vllm_config)
            # Engines in parallel start from one process, whose settings they would all inherit.
            if asked == _SAME_PROCESS and parallel.data_parallel_size == 1:
                parallel.distributed_executor_backend = _SAME_PROCESS

        return check_and_update_config

    wrap(module.CpuPlatform, "check_and_update_config", make)


def _bind_threads(module: ModuleType) -> None:
    """`CoreEngineProcManager` starts the engine's process: with what a worker's would have had."""

    def make(original: Any) -> Any:
        def start(self: Any, *args: Any, vllm_config: Any, **kwargs: Any) -> None:
            from vllm.utils.ompmultiprocessing import OMPProcessManager

            if vllm_config.parallel_config.distributed_executor_backend != _SAME_PROCESS:
                original(self, *args, vllm_config=vllm_config, **kwargs)
                return
            with OMPProcessManager(vllm_config).configure_omp_envs(rank=0, local_rank=0):
                original(self, *args, vllm_config=vllm_config, **kwargs)

        return start

    wrap(module.CoreEngineProcManager, "__init__", make)


def install() -> None:
    """Put both hooks in place, or arrange for it."""
    after_import(_PLATFORM, _keep_same_process)
    after_import(_ENGINES, _bind_threads)
