"""A model with a second set of weights, the student's: a subclass of any of vLLM's three families.

Requests of either set attend with one cache: the student's layers hold the model's own attention
modules. A batch of both runs as two passes, each over its requests' rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from vllm import ir
from vllm.config import CompilationMode, CUDAGraphMode
from vllm.logger import init_logger
from vllm.model_executor.custom_op import CustomOp
from vllm.platforms import current_platform

from ..errors import PluginError
from . import norms
from .layers import Pass
from .manifest import SHORTCUTS, STUDENT, Manifest
from .modules import Shortcuts
from .plan import Plan
from .slots import ShortcutSlots

logger = init_logger("vllm.sottovoce.shortcuts")


def _take_kernels(student: Any, compilation: Any) -> None:
    """Let the student's operators be kernels, as it runs uncompiled where the rest is compiled."""
    for layer in student.model.layers:  # one for all models of a shape
        layer.self_attn.rotary_emb = copy(layer.self_attn.rotary_emb)
    chosen, compilation.custom_ops = compilation.custom_ops, ["all"]
    for module in student.modules():
        if isinstance(module, CustomOp):
            module._forward_method = module.dispatch_forward(compile_native=False)
    compilation.custom_ops = chosen


def _build_student(base: type[Any], vllm_config: Any, layers: Any) -> Any:
    """The same model once more, attending through the attention modules of `layers`."""
    known = vllm_config.compilation_config.static_forward_context
    names = set(known)
    student = base(vllm_config=vllm_config, prefix="student")
    for name in known.keys() - names:  # or each would get a cache of its own
        del known[name]
    _take_kernels(student, vllm_config.compilation_config)
    for own, shared in zip(student.model.layers, layers, strict=True):
        own.self_attn.attn = shared.self_attn.attn
    return student


def _check(vllm_config: Any, manifest: Manifest, layers: Any) -> None:
    compilation, config = vllm_config.compilation_config, vllm_config.model_config.hf_config
    is_compiled = compilation.mode != CompilationMode.NONE and not current_platform.is_cpu()
    if is_compiled or compilation.cudagraph_mode != CUDAGraphMode.NONE:
        raise PluginError("shortcuts run uncompiled, without CUDA graphs; add --enforce-eager")
    if vllm_config.model_config.enable_prompt_embeds:
        raise PluginError(
            "shortcuts embed their own requests, so --enable-prompt-embeds is not served with them; "
            """leave it out, or start with --additional-config '{"sottovoce": {"shortcuts": false}}'"""
        )
    found = config.num_hidden_layers, config.hidden_size
    if found != (manifest.num_layers, manifest.width):
        raise PluginError(
            f"{manifest.folder}: shortcuts for {manifest.num_layers} layers of width "
            f"{manifest.width}, but the model has {found[0]} of {found[1]}; export them anew"
        )
    backend = layers[0].self_attn.attn.attn_backend
    # FlashInfer plans in buffers of its own: a part's plan would overwrite the whole batch's.
    if backend.forward_includes_kv_cache_update or backend.get_name() == "FLASHINFER":
        raise PluginError(
            f"{backend.get_name()} cannot attend for some rows and write keys and values of others, "
            "as shortcuts need; choose another --attention-backend, such as TRITON_ATTN"
        )


class ShortcutModelMixin:
    """What a model with shortcuts adds to the vLLM class that it is mixed into."""

    base: type[Any]
    manifest: Manifest

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        layers = self.model.layers  # type: ignore[attr-defined]
        _check(vllm_config, self.manifest, layers)
        self._norms: Callable[[], AbstractContextManager[None]] = nullcontext
        if current_platform.is_cpu() and vllm_config.model_config.enforce_eager:
            norms.choose(ir.ops)
        elif current_platform.is_cpu():
            self._norms = partial(norms.used, ir.ops)
        self.student = _build_student(self.base, vllm_config, layers)
        self.shortcuts = Shortcuts(self.manifest).float()
        self._plan: Plan | None = None  # of a pass whose logits are still to be computed

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """The base's weights as they come, the rest from the shortcuts' folder."""
        found: set[str] = super().load_weights(weights)  # type: ignore[misc]
        folder = self.manifest.folder
        student = self.student.load_weights(load_file(folder / STUDENT).items())
        added = load_file(folder / SHORTCUTS)
        self.shortcuts.load(added)
        logger.info("shortcuts: loaded from %s", folder)
        names = {f"student.{name}" for name in student}
        return found | names | {f"shortcuts.{name}" for name in added}

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        plan: Plan | None = None,
        slots: ShortcutSlots | None = None,
    ) -> Any:
        """The base's pass; with a plan, each set of weights over its own rows.

        Args:
            inputs_embeds: [n, H], each row of its own set's table.
            plan: of a batch with requests of the student's.
            slots: what the plan refers to.
        """
        self._plan = None
        base = super().forward  # type: ignore[misc]
        if plan is None or slots is None or inputs_embeds is None:
            return base(input_ids, positions, intermediate_tensors, inputs_embeds)
        self._plan = plan
        if plan.base is None:
            return self._study(plan, slots, inputs_embeds, positions)
        theirs, ours, hidden = plan.base.rows, plan.student.rows, torch.empty_like(inputs_embeds)
        with plan.base.entered():
            hidden[theirs] = base(None, positions[theirs], None, inputs_embeds[theirs])
        hidden[ours] = self._study(plan, slots, inputs_embeds[ours], positions[ours])
        return hidden

    def _study(
        self, plan: Plan, slots: ShortcutSlots, x: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """The student's part of a step."""
        num_skipped = np.zeros(len(x), dtype=np.int64)
        step = Pass(self.student.model, self.shortcuts, slots.before, plan.student, num_skipped)
        with self._norms():
            hidden = step.run(x, positions, plan.routes)
        plan.num_skipped[plan.student.requests_np] = num_skipped[plan.student.last_rows]
        return hidden

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Each request's by its own head, once after a pass; what else asks later is the base's."""
        plan, self._plan = self._plan, None
        base = super().compute_logits  # type: ignore[misc]
        if plan is None:
            logits: torch.Tensor = base(hidden_states)
        elif plan.base is None:
            logits = self.student.compute_logits(hidden_states)
        else:
            theirs, ours = plan.base.requests, plan.student.requests
            of_base = base(hidden_states[theirs])
            logits = of_base.new_empty(len(hidden_states), of_base.shape[1])
            logits[theirs] = of_base
            logits[ours] = self.student.compute_logits(hidden_states[ours])
        return logits


def with_shortcuts(base: type[Any], manifest: Manifest) -> type[Any]:
    """The subclass of a model class that serves these shortcuts too."""
    members = {"base": base, "manifest": manifest}
    return type(f"Shortcut{base.__name__}", (ShortcutModelMixin, base), members)
