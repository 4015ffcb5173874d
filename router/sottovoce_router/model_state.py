"""`RoutedMixin`: any of vLLM's model states, with soft rows laid over its input embeddings.

The embeddings live in one persistent buffer that is always handed to the model, so the compiled
graph and the captured CUDA graphs see one signature and one address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sottovoce_kernels import Markers, mix, warm_up
from sottovoce_kernels.backend import uses_triton

from .capabilities import (
    DEFAULT_LEDGER_TOP_N,
    Capabilities,
    ledger_positions,
    ledger_rows,
    ledger_vectors,
)
from .embedding import EmbeddingTable
from .errors import PluginError
from .ledger import Ledger
from .markers import marker_ids
from .params import RoutingParams, stamp_of
from .sampler import RoutedSampler
from .slots import SlotTable

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.gpu.model_states.interface import ModelState
    from vllm.v1.worker.gpu.states import RequestState

FINAL_ANSWER = "\n\nThe final answer is"  # follows the marker that ends all switching (2510.05069)


def stamped_params(data: NewRequestData) -> RoutingParams | None:
    """The parameters that admission stamped on a request."""
    stamp = stamp_of(data.sampling_params)
    return None if stamp is None else RoutingParams.from_dict(stamp["params"])


def outlive_sleep(model: Any, name: str, tensor: torch.Tensor) -> None:
    """Give a constant to the model: what vLLM drops at sleep level 2 comes back for buffers alone."""
    model.register_buffer(f"sottovoce_{name}", tensor, persistent=False)


class RoutedMixin:
    """What a routed model state adds to the base it is mixed into."""

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)  # type: ignore[call-arg]
        base: Any = self
        marker = marker_ids(vllm_config)
        assert marker is not None
        self._marker_ids = marker
        self._uses_embeds_hook = base.supports_mm_inputs or base.model_config.enable_prompt_embeds
        positions = ledger_positions(vllm_config)
        self.ledger = Ledger(
            ledger_rows(vllm_config), positions, positions * DEFAULT_LEDGER_TOP_N, device,
            ledger_vectors(vllm_config), base.inputs_embeds_size, base.dtype,
        )  # fmt: skip
        self.slots = SlotTable(base.max_num_reqs, self.ledger, device)
        self.table = EmbeddingTable.of(model, device)
        self._inputs_embeds = torch.zeros(
            (base.max_num_tokens, base.inputs_embeds_size), dtype=base.dtype, device=device
        )
        self._markers = self._marker_tensors(device)
        for name, tensor in vars(self._markers).items():
            outlive_sleep(model, name, tensor)

    def _marker_tensors(self, device: torch.device) -> Markers:
        from vllm.tokenizers import cached_tokenizer_from_config

        base: Any = self
        tokenizer = cached_tokenizer_from_config(base.model_config)
        special = torch.zeros(base.model_config.get_vocab_size(), dtype=torch.uint8)
        ids = self._marker_ids
        added = getattr(tokenizer, "added_tokens_decoder", {})
        # `all_special_ids` holds the named ones only: bos, eos, pad and their like.
        never_mixed = {*tokenizer.all_special_ids, *(i for i in added if added[i].special)}
        if len(ids.start) == 1:
            never_mixed.update(ids.start)
        if len(ids.natural_end) == 1:
            never_mixed.update(ids.natural_end)
        special[[i for i in never_mixed if i is not None and 0 <= i < special.numel()]] = 1

        def tensor(values: tuple[int, ...]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int32, device=device)

        phrase = tokenizer.encode(FINAL_ANSWER, add_special_tokens=False)
        return Markers(
            tensor(ids.start),
            tensor(ids.end),
            tensor(ids.natural_end),
            special.to(device),
            tensor((*ids.end, *phrase)),
        )

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        """Take a request into a slot."""
        super().add_request(req_index, new_req_data)  # type: ignore[misc]
        self.slots.add(
            req_index,
            new_req_data.req_id,
            stamped_params(new_req_data),
            new_req_data.sampling_params,
            new_req_data.prefill_token_ids or [],
            new_req_data.prompt_len,
            self._marker_ids,
        )

    def remove_request(self, req_id: str) -> None:
        """Free a slot; the ledger row stays until `finish_request`."""
        super().remove_request(req_id)  # type: ignore[misc]
        self.slots.clear(req_id)

    def finish_request(self, req_id: str) -> None:
        """The request has ended, and was not merely preempted."""
        self.ledger.release(req_id)

    def apply_staged_writes(self) -> None:
        """Mirror new parameters to the device."""
        super().apply_staged_writes()  # type: ignore[misc]
        self.slots.apply_staged_writes()

    def prepare_inputs_embeds(
        self, scheduled_encoder_inputs: Any, input_batch: InputBatch, req_states: RequestState
    ) -> torch.Tensor:
        """Multimodal and prompt embeddings, with the soft rows laid over them."""
        embeds: torch.Tensor = super().prepare_inputs_embeds(  # type: ignore[misc]
            scheduled_encoder_inputs, input_batch, req_states
        )
        self._overlay(embeds, input_batch)
        return embeds

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        """The base's inputs, and the embeddings where the base has none of its own."""
        inputs: dict[str, Any] = super().prepare_inputs(input_batch, req_states)  # type: ignore[misc]
        if not self._uses_embeds_hook:
            embeds = self._inputs_embeds[: input_batch.num_tokens_after_padding]
            self._table_of_all().lookup(input_batch.input_ids, embeds)
            self._overlay(embeds, input_batch)
            inputs["inputs_embeds"] = embeds
        return inputs

    def _table_of_all(self) -> EmbeddingTable:
        """The table that a step's tokens are looked up in; subclasses may have another."""
        return self.table

    def prepare_dummy_inputs(self, num_reqs: int, num_tokens: int) -> dict[str, Any]:
        """As `prepare_inputs`, for profiling and graph capture."""
        inputs: dict[str, Any] = super().prepare_dummy_inputs(num_reqs, num_tokens)  # type: ignore[misc]
        if not self._uses_embeds_hook:
            inputs["inputs_embeds"] = self._inputs_embeds[:num_tokens]
        return inputs

    def _overlay(self, embeds: torch.Tensor, batch: InputBatch) -> None:
        if not self.slots.has_policy[batch.idx_mapping_np].any():
            return
        self.table.overlay(
            embeds,
            lambda out: mix(
                out, self.table.weight, batch.idx_mapping, batch.query_start_loc, batch.positions,
                self.slots.tensors, self.ledger.tensors, self.table.scale, self.table.vocab_start,
            ),
        )  # fmt: skip

    def _sampler_parts(self, sampler: Any) -> tuple[Any, ...]:
        """What the routed sampler is made of, the kernels that it launches compiled."""
        table, markers, device = self.table, self._markers, self._inputs_embeds.device
        if uses_triton(device):
            warm_up(
                self._inputs_embeds, table.weight, len(markers.special),
                sampler.req_states.prefill_len.gpu, sampler.sampling_states.seeds.gpu,
                sampler.req_states.all_token_ids.gpu, self.slots.tensors, self.ledger.tensors,
                markers, table.scale, table.vocab_start,
            )  # fmt: skip
        return sampler, self.slots, self.ledger.tensors, markers, table

    def custom_sampler(self, sampler: Any) -> tuple[Any, None]:
        """vLLM's sampler with `route_step` behind it."""
        return RoutedSampler(*self._sampler_parts(sampler)), None


def routed(base: type[ModelState], vllm_config: Any, model: Any) -> type[ModelState]:
    """The routed subclass of a model state, or the base where the engine is `explicit` only."""
    capabilities = Capabilities.from_config(vllm_config)
    if capabilities.refusal:
        return base
    if not EmbeddingTable.is_plain(model):
        raise PluginError(
            f"{type(model).__name__} does not embed tokens by one floating-point table, so latent "
            "and routed cannot be served; start with --additional-config "
            """'{"sottovoce": {"soft_modes": false}}' for explicit alone"""
        )
    mixin = _mixin_of(capabilities)
    return type(f"Routed{base.__name__}", (mixin, base), {})


def _mixin_of(capabilities: Capabilities) -> type[RoutedMixin]:
    """What the model was trained for, besides text, decides."""
    if capabilities.shortcuts is not None and capabilities.latent is not None:
        raise PluginError(
            "the model's directory has shortcuts and a latent head, of which one is served; remove "
            """the other, or start with --additional-config '{"sottovoce": {"shortcuts": false}}'"""
        )
    if capabilities.shortcuts is not None:
        from .shortcuts.state import ShortcutStateMixin

        return ShortcutStateMixin
    if capabilities.latent is not None:
        from .latent.state import LatentTrainedMixin

        return LatentTrainedMixin
    return RoutedMixin
