"""The private names of vLLM that shortcuts hook into, beside those of `..seam`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..seam import wrap


def hook_config(module: ModuleType) -> None:
    """`vllm.engine.arg_utils`: a model with shortcuts runs uncompiled, without CUDA graphs.

    On a CPU there are none, and the model's own requests run compiled.
    """

    def make(original: Any) -> Any:
        def create_model_config(self: Any, *args: Any, **kwargs: Any) -> Any:
            from vllm.logger import init_logger
            from vllm.platforms import current_platform

            from ..additional import serves_shortcuts
            from .manifest import manifest_of

            config = original(self, *args, **kwargs)
            is_on = serves_shortcuts(self.additional_config)
            has_any = manifest_of(config, is_on) is not None
            if has_any and not config.enforce_eager and not current_platform.is_cpu():
                config.enforce_eager = True
                init_logger("vllm.sottovoce.shortcuts").info(
                    "shortcuts: compilation and CUDA graphs are off for this model; to have them, "
                    "and serve it without shortcuts, start with --additional-config "
                    """'{"sottovoce": {"shortcuts": false}}'"""
                )
            return config

        return create_model_config

    wrap(module.EngineArgs, "create_model_config", make)


def hook_model_class(module: ModuleType) -> None:
    """`vllm.model_executor.model_loader.base_loader`: a model with shortcuts is a subclass."""

    def make(original: Any) -> Any:
        def initialize_model(*, vllm_config: Any, model_config: Any = None, **kwargs: Any) -> Any:
            from vllm.model_executor.model_loader.utils import get_model_architecture

            from ..capabilities import Capabilities
            from .model import with_shortcuts

            manifest = Capabilities.from_config(vllm_config).shortcuts
            is_target = model_config is None or model_config is vllm_config.model_config
            if manifest is not None and is_target:
                base, _ = get_model_architecture(vllm_config.model_config)
                kwargs["model_class"] = with_shortcuts(base, manifest)
            return original(vllm_config=vllm_config, model_config=model_config, **kwargs)

        return initialize_model

    wrap(module, "initialize_model", make)


def hook_preemption(module: ModuleType) -> None:
    """`vllm.v1.core.sched.scheduler`: a latent request that returns reads all of its steps again.

    Each needs the layers' outputs at the one before, which no cache block holds.
    """

    def make(original: Any) -> Any:
        def preempt_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            from ..admission import is_student, latent_of

            original(self, request, *args, **kwargs)
            sampling = request.sampling_params
            if is_student(sampling) and latent_of(sampling)["steps"]:
                request.skip_reading_prefix_cache = True

        return preempt_request

    wrap(module.Scheduler, "_preempt_request", make)


def hook_norms(module: ModuleType) -> None:
    """`vllm.kernels`: on a CPU, kernels for norms that nothing will fuse."""
    from vllm import ir
    from vllm.platforms import current_platform

    from . import norms

    if current_platform.is_cpu():
        norms.register(ir.ops)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "vllm.engine.arg_utils": hook_config,
    "vllm.kernels": hook_norms,
    "vllm.model_executor.model_loader.base_loader": hook_model_class,
    "vllm.v1.core.sched.scheduler": hook_preemption,
}
