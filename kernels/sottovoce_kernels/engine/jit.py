"""The one place that talks to numba's decorators, so that the rest of the package stays typed.

`njit` compiles without the interpreter lock and caches on disk. The three intrinsics reinterpret
32 bits, or an address, inside compiled code, which numba has no other spelling for.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from sottovoce_kernels.engine.cache import cache_directory

# Read by numba once. It would count the cores that this thread may run on, and vLLM binds a model's
# first thread to one of its cores.
os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

# Where it cannot be written, as in an installed package, numba takes the user's cache directory.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_directory()))

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])


def njit(
    *, reorder: bool = False, fuse: bool = False, parallel: bool = False
) -> Callable[[_Function], _Function]:
    """Compile a function.

    `reorder` lets float sums vectorise; `fuse` makes a product and a sum one rounding.
    """
    options: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
    if parallel:
        options["parallel"] = True
    flags = ({"nsz", "reassoc"} if reorder else set()) | ({"contract"} if fuse else set())
    if flags:
        options["fastmath"] = flags

    def compiled(function: _Function) -> _Function:
        dispatcher: _Function = numba.njit(**options)(function)
        return dispatcher

    return compiled


def _cast(source: Any, target: Any, instruction: str, llvm_type: Any = None) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        to = llvm_type or context.get_value_type(target)
        return getattr(builder, instruction)(arguments[0], to)

    return target(source), generate


def _bits_of_float(_context: Any, value: Any) -> Any:
    return _cast(types.float32, types.int32, "bitcast")


def _float_of_bits(_context: Any, bits: Any) -> Any:
    return _cast(types.int32, types.float32, "bitcast")


def _pointer(_context: Any, address: Any) -> Any:
    return _cast(types.uint64, types.voidptr, "inttoptr", cgutils.voidptr_t)


prange: Callable[[int], range] = numba.prange


@functools.cache
def use_torch_threads() -> None:
    """Let parallel loops take as many threads as torch does, which vLLM has bound to cores.

    Both run on one OpenMP pool where numba's OpenMP layer loads, so no core gets two threads. When
    the layer starts, it sizes the pool anew, for torch as well.
    """
    num_threads = torch.get_num_threads()
    numba.set_num_threads(min(num_threads, numba.config.NUMBA_NUM_THREADS))  # starts it
    torch._C.set_num_threads(num_threads)  # vLLM turns `torch.set_num_threads` off


bits_of_float: Callable[[Any], Any] = intrinsic(_bits_of_float)
float_of_bits: Callable[[Any], Any] = intrinsic(_float_of_bits)
_pointer_of: Callable[[Any], Any] = intrinsic(_pointer)


@njit()
def int32_at(address: np.uint64, size: int) -> Any:
    """View `size` int32 values at a raw address, as the tables of block-table pointers need."""
    return numba.carray(_pointer_of(address), size, np.int32)
