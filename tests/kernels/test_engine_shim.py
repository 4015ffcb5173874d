"""The stand-in for `triton`: how launches are bound, and what happens without a CPU version."""

from typing import Any

import pytest
import triton

from sottovoce_kernels.engine import CpuTriton, MissingKernelError

Launches = list[tuple[Any, ...]]


def scale_kernel(x_ptr: Any, stride: Any, count: Any, BLOCK: Any, FLAG: Any = 1) -> None:
    """Stand for a GPU kernel: only its parameters matter."""


NAME = f"{__name__}.scale_kernel"


@pytest.fixture
def launches() -> Launches:
    return []


@pytest.fixture
def shim(launches: Launches) -> CpuTriton:
    return CpuTriton({NAME: lambda *args: launches.append(args)})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("x", 2, 3, 4, 5), {}),
        (("x", 2, 3), {"BLOCK": 4, "FLAG": 5}),
        (("x", 2, 3), {"FLAG": 5, "BLOCK": 4}),
        (("x",), {"count": 3, "FLAG": 5, "stride": 2, "BLOCK": 4}),
        ((), {"FLAG": 5, "BLOCK": 4, "count": 3, "stride": 2, "x_ptr": "x"}),
        (("x", 2, 3), {"BLOCK": 4, "num_warps": 8, "FLAG": 5, "num_stages": 2}),
    ],
)
def test_arguments_arrive_in_parameter_order(
    shim: CpuTriton, launches: Launches, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    kernel = shim.jit(scale_kernel)
    for _ in range(2):  # the second launch takes the remembered path
        kernel[(1,)](*args, **kwargs)
    assert launches == [("x", 2, 3, 4, 5)] * 2


def test_defaults_fill_in(shim: CpuTriton, launches: Launches) -> None:
    kernel = shim.jit(scale_kernel)
    kernel[(1,)]("x", 2, 3, BLOCK=4)
    kernel[(1,)]("x", 2, 3, 4)
    kernel[(1,)]("x", 2, 3, BLOCK=4, num_warps=1)
    assert launches == [("x", 2, 3, 4, 1)] * 3


@pytest.mark.parametrize("grid", [(2, 3), lambda meta: (meta["count"] // meta["BLOCK"], 3)])
def test_grid_is_passed_to_those_who_ask(grid: Any) -> None:
    grids = []
    shim = CpuTriton({NAME: lambda *args, grid: grids.append(grid)})
    shim.jit(scale_kernel)[grid]("x", 2, 8, BLOCK=4)
    assert grids == [(2, 3)]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("x", 2), {"BLOCK": 4}, "missing: \\['count'\\]"),
        (("x", 2, 3), {"BLOCK": 4, "BLOK": 5}, "unknown: \\['BLOK'\\]"),
        (("x", 2, 3, 4), {"BLOCK": 4}, "unknown: \\['BLOCK'\\]"),
        (("x", 2, 3, 4, 5, 6), {}, "6 positional arguments for 5 parameters"),
    ],
)
def test_wrong_launches_are_refused(
    shim: CpuTriton, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        shim.jit(scale_kernel)[(1,)](*args, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"num_warps": 4}])
def test_a_kernel_without_cpu_version_says_so_when_launched(kwargs: dict[str, int]) -> None:
    shim = CpuTriton({})
    kernel = shim.jit(scale_kernel)
    with pytest.raises(MissingKernelError, match=rf"{NAME}.*TRITON_INTERPRET=1"):
        kernel[(1,)]("x", 2, 3, 4, **kwargs)
    assert issubclass(MissingKernelError, RuntimeError)


def test_names_say_what_has_a_cpu_version(shim: CpuTriton) -> None:
    @shim.jit(do_not_specialize=["x"])
    def helper(x: Any) -> Any:
        return x

    shim.jit(scale_kernel)
    assert shim.names == {NAME: True, f"{__name__}.{helper.__qualname__}": False}


def test_a_kernel_looks_like_its_function(shim: CpuTriton) -> None:
    kernel = shim.jit(scale_kernel)
    assert kernel.fn is scale_kernel
    assert kernel.arg_names == ["x_ptr", "stride", "count", "BLOCK", "FLAG"]
    assert (kernel.__module__, kernel.__name__) == (__name__, "scale_kernel")
    with pytest.raises(RuntimeError, match="launch it"):
        kernel("x", 2, 3, 4)


def test_everything_else_is_real_triton(shim: CpuTriton) -> None:
    assert shim.cdiv(7, 2) == 4
    assert shim.next_power_of_2(5) == 8
    assert shim.language is triton.language
    with pytest.raises(AttributeError):
        _ = shim.no_such_name
