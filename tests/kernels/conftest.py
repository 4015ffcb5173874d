"""Runs an engine kernel twice, vLLM's in the Triton interpreter and ours, on the same arguments."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from engine_scenes import addresses
from interpreter import Interpreter

from sottovoce_kernels.engine import CPU_KERNELS

Arguments = dict[str, Any]
# Where a kernel rounds to bfloat16 the interpreter truncates, and we, like a GPU, round to nearest.
BFLOAT16_STEP = 2.0**-7
RunBoth = Callable[[str, tuple[int, ...], Arguments], tuple[Arguments, Arguments]]


def whole_memory(tensor: torch.Tensor) -> torch.Tensor:
    """See a tensor's storage, so that writes outside a strided view show."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((size,), (1,), 0)


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    process = Interpreter()
    yield process
    process.close()


@pytest.fixture
def run_both(interpreter: Interpreter) -> RunBoth:
    """Give a function that returns the arguments as vLLM's kernel, and as ours, left them."""

    def run(
        kernel: str, grid: tuple[int, ...], arguments: Arguments
    ) -> tuple[Arguments, Arguments]:
        name = kernel if kernel.startswith("vllm.") else f"vllm.v1.worker.gpu.{kernel}"
        parameters, expected = interpreter.launch(name, grid, arguments)
        ours = copy.deepcopy(arguments)
        values = [ours[parameter] for parameter in parameters]
        bound = [addresses(value) if isinstance(value, list) else value for value in values]
        CPU_KERNELS[name](*bound, grid=grid)
        return expected, ours

    return run


@pytest.fixture
def compare(run_both: RunBoth) -> Callable[..., None]:
    """Give a function that requires every argument to be left equal, or within its tolerance."""

    def check(
        kernel: str, grid: tuple[int, ...], arguments: Arguments, **tolerances: float
    ) -> None:
        expected, ours = run_both(kernel, grid, arguments)
        for name, value in expected.items():
            tensors = value if isinstance(value, list) else [value]
            ours_too = ours[name] if isinstance(value, list) else [ours[name]]
            for reference, actual in zip(tensors, ours_too, strict=True):
                if isinstance(reference, torch.Tensor):
                    torch.testing.assert_close(
                        whole_memory(actual),
                        whole_memory(reference),
                        rtol=BFLOAT16_STEP if reference.dtype is torch.bfloat16 else 0,
                        atol=tolerances.get(name, 0),
                        equal_nan=True,
                        msg=lambda message, name=name: f"{name}: {message}",
                    )

    return check
