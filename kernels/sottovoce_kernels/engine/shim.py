"""A stand-in for the `triton` module whose `jit` hands out CPU functions instead of GPU kernels.

vLLM's Model Runner V2 launches Triton kernels by name; on a machine without a Triton backend the
plugin puts a `CpuTriton` where vLLM looks for `triton`, and launches reach numba code.
"""

import importlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

LAUNCH_OPTIONS = frozenset(
    {"num_warps", "num_stages", "num_ctas", "maxnreg", "launch_pdl", "enable_fp_fusion"}
)


class MissingKernelError(RuntimeError):
    """A Triton kernel without a CPU version was launched."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Triton kernel {name} has no CPU version. Turn off the feature that launches it, "
            "run on a GPU, or set TRITON_INTERPRET=1 to run every kernel in the (slow) interpreter."
        )


class CpuKernel:
    """What `CpuTriton.jit` returns: `kernel[grid](...)` runs the CPU implementation.

    The implementation gets the launch arguments positionally in the kernel's parameter order, and
    the grid as keyword `grid` if it has a parameter of that name.
    """

    def __init__(self, fn: Callable[..., Any], implementation: Callable[..., Any] | None) -> None:
        self.fn = fn
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self._parameters = inspect.signature(fn).parameters
        self.arg_names = list(self._parameters)
        self._implementation = implementation or self._refuse
        self._wants_grid = implementation is not None and (
            "grid" in inspect.signature(implementation).parameters
        )
        self._plans: dict[tuple[Any, ...], tuple[tuple[str, ...], dict[str, Any]]] = {}
        self._defaults = {
            name: parameter.default
            for name, parameter in self._parameters.items()
            if parameter.default is not parameter.empty
        }

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*args: Any, **kwargs: Any) -> None:
            plan = self._plans.get((len(args), *kwargs))
            names, defaults = plan or self._plan(len(args), kwargs)
            if defaults:
                kwargs = defaults | kwargs
            bound = (*args, *[kwargs[name] for name in names])
            if not self._wants_grid:
                self._implementation(*bound)
            elif callable(grid):
                meta = dict(zip(self.arg_names, bound, strict=True))
                self._implementation(*bound, grid=grid(meta))
            else:
                self._implementation(*bound, grid=grid)

        return launch

    def __call__(self, *_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(
            f"{self.__name__} is a kernel: launch it with {self.__name__}[grid](...)."
        )

    def _plan(
        self, num_positional: int, kwargs: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Check one way to call the kernel; name what follows its positionals, and the defaults."""
        names = tuple(self.arg_names[num_positional:])
        unknown = [name for name in kwargs if name not in names and name not in LAUNCH_OPTIONS]
        missing = [name for name in names if name not in kwargs and name not in self._defaults]
        if unknown or missing or num_positional > len(self.arg_names):
            raise TypeError(
                f"{self.__name__}: launched with {num_positional} positional arguments for "
                f"{len(self.arg_names)} parameters, unknown: {unknown}, missing: {missing}."
            )
        defaults = {name: self._defaults[name] for name in names if name not in kwargs}
        plan = self._plans[(num_positional, *kwargs)] = (names, defaults)
        return plan

    def _refuse(self, *_args: Any, **_grid: Any) -> None:
        raise MissingKernelError(f"{self.__module__}.{self.__qualname__}")


class CpuTriton(types.ModuleType):
    """The `triton` that vLLM sees: our `jit`, everything else from the real module.

    `names` maps each kernel and device function seen so far, as `module.qualname`, to whether it
    has a CPU version.
    """

    def __init__(
        self, kernels: Mapping[str, Callable[..., Any]], triton: types.ModuleType | None = None
    ) -> None:
        super().__init__("triton", CpuTriton.__doc__)
        self._kernels = kernels
        self._triton = triton or importlib.import_module("triton")
        self.names: dict[str, bool] = {}

    def jit(self, fn: Callable[..., Any] | None = None, **_options: Any) -> Any:
        """Stand in for `triton.jit`, bare or with options; the options only matter to a GPU."""
        return self._kernel if fn is None else self._kernel(fn)

    def _kernel(self, fn: Callable[..., Any]) -> CpuKernel:
        name = f"{fn.__module__}.{fn.__qualname__}"
        implementation = self._kernels.get(name)
        self.names[name] = implementation is not None
        return CpuKernel(fn, implementation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._triton, name)
