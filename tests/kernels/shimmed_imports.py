"""Imports Model Runner V2 with our `triton` in place and prints what it asked for, as JSON.

Run as a process of its own, because vLLM can be imported in one way only.
"""

import importlib
import inspect
import json
import os
import pkgutil
import sys
from typing import Any


def _import_all(package: str) -> dict[str, str]:
    """Import a package's modules; return those that this machine cannot import, with the reason."""
    failures = {}
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            failures[module.name] = str(error)
    return failures


def _arguments(implementation: Any) -> tuple[int, bool]:
    """How many launch arguments an implementation takes, and whether more may follow."""
    parameters = inspect.signature(implementation).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(positional), any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _report() -> dict[str, Any]:
    import triton.language as tl
    import triton.language.extra.libdevice as tldevice
    import vllm.config.vllm
    import vllm.triton_utils

    from sottovoce_kernels.engine import CPU_KERNELS, CpuTriton

    shim = CpuTriton(CPU_KERNELS)
    vllm.triton_utils.triton = shim
    vllm.triton_utils.tl = tl
    vllm.triton_utils.tldevice = tldevice
    vllm.triton_utils.HAS_TRITON = vllm.config.vllm.HAS_TRITON = True
    import vllm.v1.worker.cpu.shm  # lets the GPU worker's modules run on the CPU

    failures = _import_all("vllm.v1.worker.gpu")
    kernels = {}
    for name, implementation in CPU_KERNELS.items():
        module, attribute = name.rsplit(".", 1)
        parameters = getattr(importlib.import_module(module), attribute).arg_names
        kernels[name] = (len(parameters), *_arguments(implementation))
    return {"names": shim.names, "kernels": kernels, "failures": failures}


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM logs to standard output, which carries our reply
    json.dump(_report(), replies)
    replies.close()
    sys.exit()
