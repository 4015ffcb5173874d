"""The private names of vLLM that the plugin hooks into on any device, for one pinned version.

Each hook wraps a function and calls it; requests without a policy see vLLM as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import aclosing
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .errors import PluginError

PINNED_VERSION = "0.32.0"
_MARK = "_sottovoce_wrapped"


def check_version() -> None:
    """Refuse a vLLM whose internals this plugin was not written for."""
    import vllm

    if not vllm.__version__.startswith(PINNED_VERSION):
        raise PluginError(
            f"vllm {vllm.__version__} is installed but sottovoce hooks into the internals of "
            f"{PINNED_VERSION}; install vllm=={PINNED_VERSION}"
        )


def _missing(name: str) -> PluginError:
    return PluginError(
        f"vllm has no {name}, which sottovoce hooks into; install vllm=={PINNED_VERSION} afresh"
    )


def wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by `make(original)`, once, and fail where there is no such name."""
    if name not in vars(owner):
        raise _missing(f"{owner.__name__}.{name}")
    attribute = vars(owner)[name]
    is_class_method = isinstance(attribute, classmethod)
    original = attribute.__func__ if is_class_method else attribute
    if getattr(original, _MARK, False):
        return
    replacement = functools.wraps(original)(make(original))
    setattr(replacement, _MARK, True)
    setattr(owner, name, classmethod(replacement) if is_class_method else replacement)


class _AfterImport(MetaPathFinder):
    """Runs a hook right after a module was executed, so that start-up imports nothing early."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Defer to the other finders, and hook the loader they return."""
        hooks = self.hooks.pop(name, None)
        if hooks is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            raise _missing(name)
        for hook in hooks:
            _hook_loader(spec.loader, hook)
        return spec


def _hook_loader(loader: Loader, hook: Callable[[ModuleType], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        hook(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


_finder = _AfterImport()


def after_import(module: str, hook: Callable[[ModuleType], None]) -> None:
    """Run `hook(module)` now if the module is loaded, else as soon as it is."""
    if module in sys.modules:
        hook(sys.modules[module])
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.hooks.setdefault(module, []).append(hook)


def hook_model_state(module: ModuleType) -> None:
    """`vllm.v1.worker.gpu.model_states`: choose the routed subclass."""

    def make(original: Any) -> Any:
        def resolve(vllm_config: Any, model: Any) -> Any:
            from .model_state import routed

            return routed(original(vllm_config, model), vllm_config, model)

        return resolve

    wrap(module, "resolve_model_state_cls", make)


def hook_finish(module: ModuleType) -> None:
    """`vllm.v1.worker.gpu.model_runner`: tell ended requests from preempted ones."""

    def make(original: Any) -> Any:
        def finish_requests(self: Any, scheduler_output: Any) -> None:
            original(self, scheduler_output)
            finish = getattr(self.model_state, "finish_request", None)
            if finish is not None:
                for req_id in scheduler_output.finished_req_ids:
                    finish(req_id)

        return finish_requests

    wrap(module.GPUModelRunner, "finish_requests", make)


def hook_block_hash(module: ModuleType) -> None:
    """`vllm.v1.core.kv_cache_utils`: a block of what tokens do not tell has a key of its own."""

    def make(original: Any) -> Any:
        def generate(request: Any, start: int, end: int, start_mm_idx: int) -> Any:
            from .admission import block_keys

            keys, next_mm_idx = original(request, start, end, start_mm_idx)
            ours = block_keys(request, end)
            return (*(keys or ()), *ours) if ours else keys, next_mm_idx

        return generate

    wrap(module, "generate_block_hash_extra_keys", make)


def hook_admission(module: ModuleType) -> None:
    """`vllm.v1.engine.input_processor`: parse, check and stamp every request."""

    def make(original: Any) -> Any:
        def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
            from vllm.exceptions import VLLMValidationError

            from .admission import admit
            from .capabilities import Capabilities
            from .errors import RoutingError

            request = original(self, *args, **kwargs)
            try:
                admit(request, Capabilities.from_config(self.vllm_config))
            except RoutingError as error:
                raise VLLMValidationError(str(error), parameter=error.param) from error
            return request

        return process_inputs

    wrap(module.InputProcessor, "process_inputs", make)


def hook_generate(module: ModuleType) -> None:
    """`vllm.v1.engine.async_llm`: show every output to the observer of the caller's context."""

    def make(original: Any) -> Any:
        async def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
            from .observe import observer

            watch = observer.get()
            # Closed with its wrapper, so that a client's disconnect aborts at once.
            async with aclosing(original(self, *args, **kwargs)) as outputs:
                async for output in outputs:
                    if watch is not None:
                        watch(output)
                    yield output

        return generate

    wrap(module.AsyncLLM, "generate", make)


def hook_compile_cache(module: ModuleType) -> None:
    """`vllm.compilation.caching`: a model compiled for token ids is not one compiled for embeddings.

    vLLM loads what an earlier start compiled, unchecked, be it one without soft modes.
    """

    def make(original: Any) -> Any:
        def aot_compile_hash_factors(vllm_config: Any) -> Any:
            from .capabilities import Capabilities

            is_soft = Capabilities.from_config(vllm_config).refusal is None
            return [*original(vllm_config), *(["sottovoce: inputs_embeds"] if is_soft else [])]

        return aot_compile_hash_factors

    wrap(module, "aot_compile_hash_factors", make)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "vllm.compilation.caching": hook_compile_cache,
    "vllm.v1.worker.gpu.model_states": hook_model_state,
    "vllm.v1.worker.gpu.model_runner": hook_finish,
    "vllm.v1.core.kv_cache_utils": hook_block_hash,
    "vllm.v1.engine.input_processor": hook_admission,
    "vllm.v1.engine.async_llm": hook_generate,
}


def install(hooks: Mapping[str, Callable[[ModuleType], None]]) -> None:
    """Put every hook, by the module that it changes, in place, or arrange for it."""
    for module, hook in hooks.items():
        after_import(module, hook)
