"""On a CPU, a second start loads the model that the first one compiled.

vLLM saves the compiled model, but cannot load it there: it asks the loaded function to finish
loading, which only the functions of its own compiler, not used on CPUs, know how to do.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .seam import after_import, wrap


def _nothing_left_to_load(vllm_config: Any) -> None:
    pass


def _load_whole(module: ModuleType) -> None:
    """`torch.compiler.load_compiled_function`: what it returns is complete."""

    def make(original: Any) -> Any:
        def load_compiled_function(*args: Any, **kwargs: Any) -> Any:
            loaded = original(*args, **kwargs)
            compiled = loaded._artifacts.compiled_fn
            if not hasattr(compiled, "finalize_loading"):
                compiled.finalize_loading = _nothing_left_to_load
            return loaded

        return load_compiled_function

    wrap(module, "load_compiled_function", make)


def install() -> None:
    """Put the hook in place."""
    after_import("torch.compiler", _load_whole)
