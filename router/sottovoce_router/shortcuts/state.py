"""The model state of a model with shortcuts: plans every step and feeds the student's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..embedding import EmbeddingTable
from ..model_state import RoutedMixin
from ..params import STAMP
from .attention import Attention
from .plan import Plan, plan_step
from .sampler import ShortcutSampler
from .slots import ShortcutSlots, Stamp

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.states import RequestState


def _stamp_of(data: NewRequestData) -> Stamp | None:
    sampling = data.sampling_params
    return Stamp.of((sampling.extra_args or {}).get(STAMP) if sampling is not None else None)


class ShortcutStateMixin(RoutedMixin):
    """What shortcuts add to a routed model state."""

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        base: Any = self
        self._student_table = EmbeddingTable.of(model.student, device)
        self.shortcut_slots = ShortcutSlots(base.max_num_reqs, model.manifest, base.dtype, device)
        self._plan: Plan | None = None

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        """Take a request into a slot."""
        super().add_request(req_index, new_req_data)
        data = new_req_data
        self.shortcut_slots.add(req_index, data.req_id, _stamp_of(data), data.prompt_len)

    def remove_request(self, req_id: str) -> None:
        """Free a slot."""
        super().remove_request(req_id)
        self.shortcut_slots.clear(req_id)

    def finish_request(self, req_id: str) -> None:
        """The request has ended, and was not merely preempted."""
        super().finish_request(req_id)
        self.shortcut_slots.release(req_id)

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
        self._plan = plan_step(input_batch, self.shortcut_slots, self._marker_ids.end, whole)
        if self._plan is None or self._plan.base is None:
            return build(input_batch, block_tables, slot_mappings)
        return {}

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        """The routed inputs, with the student's rows and latents laid over them, and the plan."""
        inputs = super().prepare_inputs(input_batch, req_states)
        plan = self._plan
        if plan is None:
            return inputs
        embeds = inputs["inputs_embeds"]
        if plan.base is not None:
            rows = plan.student.rows
            found = embeds.new_empty(len(rows), embeds.shape[1])
            self._student_table.lookup(input_batch.input_ids[rows], found)
            embeds[rows] = found
        if plan.fed is not None:
            latents = self.shortcut_slots.latents[plan.fed.ledger_rows, plan.fed.steps]
            embeds[plan.fed.rows] = latents
        return {**inputs, "plan": plan, "slots": self.shortcut_slots}

    def _table_of_all(self) -> EmbeddingTable:
        is_students = self._plan is not None and self._plan.base is None
        return self._student_table if is_students else self.table

    def take_plan(self) -> Plan | None:
        """The plan of the step whose tokens are to be sampled, once."""
        plan, self._plan = self._plan, None
        return plan

    def custom_sampler(self, sampler: Any) -> tuple[Any, None]:
        """The routed sampler, which records what latent steps are to record."""
        parts = self.slots, self.ledger.tensors, self._markers, self.table
        return ShortcutSampler(sampler, *parts, take_plan=self.take_plan), None
