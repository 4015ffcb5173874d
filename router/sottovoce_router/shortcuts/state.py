"""The model state of a model with shortcuts: plans every step and embeds the student's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..embedding import EmbeddingTable
from ..errors import PluginError
from ..latent.heads import Codi, Head
from ..latent.manifest import MAX_STEPS
from ..latent.rows import Indices
from ..latent.state import LatentMixin
from ..params import stamp_of
from .attention import Attention
from .plan import Plan, plan_step
from .sampler import ShortcutSampler
from .slots import ShortcutSlots

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.states import RequestState


class ShortcutStateMixin(LatentMixin):
    """What shortcuts add to a model state that takes latent steps."""

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
        if not hasattr(model, "student"):
            raise PluginError(
                "shortcuts come with vLLM's own loaders of weights, and not with this one; choose "
                "another --load-format, or start with --additional-config "
                """'{"sottovoce": {"shortcuts": false}}'"""
            )
        super().__init__(vllm_config, model, encoder_cache, device)
        base: Any = self
        self._student_table = EmbeddingTable.of(model.student, device)
        self.shortcut_slots = ShortcutSlots(base.max_num_reqs, model.manifest, base.dtype, device)
        self._plan: Plan | None = None

    def _new_head(self, vllm_config: Any) -> tuple[Head, int]:
        """The student's feedback."""
        base: Any = self
        return Codi(base.model.shortcuts.feedback), MAX_STEPS

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        """Take a request into a slot."""
        super().add_request(req_index, new_req_data)
        stamp = stamp_of(new_req_data.sampling_params)
        self.shortcut_slots.add(req_index, new_req_data.req_id, stamp)

    def remove_request(self, req_id: str) -> None:
        """Free a slot."""
        super().remove_request(req_id)
        self.shortcut_slots.clear(req_id)

    def prepare_attn(
        self,
        input_batch: InputBatch,
        cudagraph_mode: Any,
        block_tables: tuple[torch.Tensor, ...],
        slot_mappings: torch.Tensor,
        attn_groups: Any,
        kv_cache_config: Any,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Plan the step; with the student in the batch, its parts build their own metadata."""
        from vllm.v1.worker.gpu.attn_utils import build_slot_mappings_by_layer

        prepare: Any = super().prepare_attn  # type: ignore[misc]

        def build(batch: InputBatch, tables: Any, mappings: torch.Tensor) -> dict[str, Any]:
            found: dict[str, Any] = prepare(
                batch, cudagraph_mode, tables, mappings, attn_groups, kv_cache_config,
                *args, **kwargs,
            )  # fmt: skip
            return found

        def named(mappings: torch.Tensor) -> dict[str, torch.Tensor]:
            found: dict[str, torch.Tensor] = build_slot_mappings_by_layer(mappings, kv_cache_config)
            return found

        whole = Attention(build, named, input_batch, block_tables, slot_mappings)
        self._plan = plan_step(input_batch, self.shortcut_slots, self.latents, whole)
        if self._plan is None or self._plan.base is None:
            return build(input_batch, block_tables, slot_mappings)
        return {}

    def _table_of_all(self) -> EmbeddingTable:
        is_students = self._plan is not None and self._plan.base is None
        return self._student_table if is_students else self.table

    def _overlay(self, embeds: torch.Tensor, batch: InputBatch) -> None:
        """The student's rows by its own table, which no policy mixes; then what is laid over all."""
        if self._plan is not None and self._plan.base is not None:
            rows = self._plan.student.rows
            found = embeds.new_empty(len(rows), embeds.shape[1])
            self._student_table.lookup(batch.input_ids[rows], found)
            embeds[rows] = found
        super()._overlay(embeds, batch)

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        """The inputs, with the plan for the model."""
        inputs = super().prepare_inputs(input_batch, req_states)
        plan = {"plan": self._plan, "slots": self.shortcut_slots}
        return inputs if self._plan is None else {**inputs, **plan}

    def take_skipped(self) -> Indices | None:
        """Layers that each request's last row skipped in the step to be sampled, once."""
        plan, self._plan = self._plan, None
        return None if plan is None else plan.num_skipped

    def custom_sampler(self, sampler: Any) -> tuple[Any, None]:
        """The sampler of latent steps, which records what was skipped."""
        return ShortcutSampler(
            *self._sampler_parts(sampler), latents=self.latents, end=self._end,
            take_plan=self.take_latent_plan, take_skipped=self.take_skipped,
        ), None  # fmt: skip
