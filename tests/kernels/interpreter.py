"""A process that runs vLLM's own Triton kernels in the Triton interpreter, as the tests' reference.

It is a process of its own because vLLM reads the environment and patches torch when imported.
Requests and replies are pickles over the standard streams; `Interpreter` is the client's side.
"""

import importlib
import os
import pickle
import subprocess
import sys
from typing import Any


class Interpreter:
    """Client of one interpreter process."""

    def __init__(self) -> None:
        environment = dict(os.environ, TRITON_INTERPRET="1", VLLM_LOGGING_LEVEL="ERROR")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def launch(self, kernel: str, grid: tuple[int, ...], arguments: dict[str, Any]) -> Any:
        """Run a kernel; return its parameter names and the arguments as it left them.

        An argument that is a list of tensors reaches the kernel as a table of their addresses.
        """
        return self._ask("launch", kernel, grid, arguments)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a plain function of vLLM's and return what it returns."""
        return self._ask("call", function, arguments)

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.communicate()

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        is_error, reply = pickle.load(self._process.stdout)
        if is_error:
            raise RuntimeError(f"The interpreter process failed:\n{reply}")
        return reply


def _install_triton() -> None:
    import triton
    import triton.language as tl
    import triton.language.extra.libdevice as tldevice
    import vllm.config.vllm
    import vllm.triton_utils

    vllm.triton_utils.triton = triton
    vllm.triton_utils.tl = tl
    vllm.triton_utils.tldevice = tldevice
    vllm.triton_utils.HAS_TRITON = True
    vllm.config.vllm.HAS_TRITON = True
    import vllm.v1.worker.cpu.shm  # lets the GPU worker's modules run on the CPU


def _accept_any_mask() -> None:
    """Let a mask be of any integer type.

    The interpreter leaves `a & b` of a scalar and a block condition as int8, and then refuses it.
    """
    from triton.runtime import interpreter

    class AnyMask:
        def load(self, pointers: Any, mask: Any, other: Any, dtype: Any) -> Any:
            return memory.load(pointers, mask.astype(bool), other, dtype)

        def store(self, pointers: Any, values: Any, mask: Any) -> Any:
            return memory.store(pointers, values, mask.astype(bool))

        def __getattr__(self, name: str) -> Any:
            return getattr(memory, name)

    memory = interpreter._interpreter
    interpreter._interpreter = AnyMask()


def _find(name: str) -> Any:
    module, attribute = name.rsplit(".", 1)
    return getattr(importlib.import_module(module), attribute)


def _launch(name: str, grid: tuple[int, ...], arguments: dict[str, Any]) -> Any:
    import torch

    def resolve(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return torch.tensor([tensor.data_ptr() for tensor in value], dtype=torch.uint64)

    kernel = _find(name)
    kernel[grid](**{key: resolve(value) for key, value in arguments.items()})
    return list(kernel.arg_names), arguments


def _serve() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # vLLM logs to standard output, which carries our replies
    _install_triton()
    _accept_any_mask()
    while True:
        try:
            kind, name, *rest = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = (False, _launch(name, *rest) if kind == "launch" else _find(name)(*rest[0]))
        except Exception:
            import traceback

            reply = (True, traceback.format_exc())
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    _serve()
