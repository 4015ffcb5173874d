"""The model state of a model that takes latent steps: lays its own vectors over the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..capabilities import Capabilities
from ..errors import PluginError
from ..model_state import RoutedMixin, outlive_sleep
from ..params import stamp_of
from .heads import Head, load_head
from .noise import normal
from .plan import Fed, Made, Plan, plan_step
from .reader import StepReader, load_reader
from .sampler import LatentSampler
from .slots import LatentSlots, Stamp

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch


class LatentMixin(RoutedMixin):
    """What latent steps add to a routed model state.

    A latent step is an engine step whose sampled token is overwritten by a placeholder, and whose
    input is what a head makes of the state before it.
    """

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        base: Any = self
        self._head, max_steps = self._new_head(vllm_config)
        self._reader = self._new_reader(vllm_config)
        self.latents = LatentSlots(
            base.max_num_reqs, max_steps, base.inputs_embeds_size, base.dtype, device
        )
        self._end = torch.tensor(self._marker_ids.end, dtype=torch.int64, device=device)
        outlive_sleep(model, "end_ids", self._end)
        self._latent_plan: Plan | None = None

    def _new_head(self, vllm_config: Any) -> tuple[Head, int]:
        """The head, and the most steps of a request."""
        raise NotImplementedError

    def _new_reader(self, vllm_config: Any) -> StepReader | None:
        """What reads latents in words, if the model has it."""
        return None

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        """Take a request into a slot."""
        super().add_request(req_index, new_req_data)
        data, reader = new_req_data, self._reader
        seed = None if data.sampling_params is None else data.sampling_params.seed
        stamp = Stamp.of(stamp_of(data.sampling_params), seed)
        every = reader.stride if reader and self.slots.trace_top_n[req_index] > 0 else 0
        self.latents.add(req_index, data.req_id, stamp, data.prompt_len, every)

    def remove_request(self, req_id: str) -> None:
        """Free a slot."""
        super().remove_request(req_id)
        self.latents.clear(req_id)

    def finish_request(self, req_id: str) -> None:
        """The request has ended, and was not merely preempted."""
        super().finish_request(req_id)
        self.latents.release(req_id)

    def apply_staged_writes(self) -> None:
        """Write what is new to the device."""
        super().apply_staged_writes()
        self.latents.apply_staged_writes()

    def _overlay(self, embeds: torch.Tensor, batch: InputBatch) -> None:
        """Soft rows, and latents."""
        super()._overlay(embeds, batch)
        plan = self._latent_plan = plan_step(batch, self.latents, len(self._end))
        if plan is not None and plan.fed is not None:
            self._feed(embeds, plan.fed)

    def _feed(self, embeds: torch.Tensor, fed: Fed) -> None:
        latents = self.latents
        is_latent = latents.num_steps[fed.ledger_rows] > fed.steps
        vectors = latents.vectors[fed.ledger_rows, fed.steps]
        embeds[fed.rows] = torch.where(is_latent[:, None], vectors, embeds[fed.rows])

    def think(self, hidden: torch.Tensor, last_rows: torch.Tensor) -> None:
        """Make the next latent inputs, before anything is sampled.

        Args:
            hidden: what the model returned, [T, H].
            last_rows: each request's last row, [B].
        """
        made = None if self._latent_plan is None else self._latent_plan.made
        if made is None:
            return
        states = hidden[last_rows[made.requests]]
        inputs = self._head(states, lambda: normal(made.seeds, made.steps, states.shape[1]))
        self.latents.vectors[made.ledger_rows, made.steps] = inputs.to(self.latents.vectors.dtype)
        if self._head.stride is not None:
            self._stop(made, self._head.stops(states), self._head.stride)

    def _stop(self, made: Made, stops: torch.Tensor, stride: int) -> None:
        """End the steps of those that their head stops, where it is asked."""
        num_read, planned = made.steps, self.latents.num_steps[made.ledger_rows]
        is_asked = (num_read > 0) & (num_read % stride == 0) & (num_read < planned)
        found = torch.where(is_asked & stops, num_read, planned)
        self.latents.num_steps[made.ledger_rows] = found

    def take_latent_plan(self) -> Plan | None:
        """The plan of the step whose tokens are to be sampled, once."""
        plan, self._latent_plan = self._latent_plan, None
        return plan

    def custom_sampler(self, sampler: Any) -> tuple[Any, None]:
        """The routed sampler, which records what latent steps are to record."""
        return LatentSampler(
            *self._sampler_parts(sampler), latents=self.latents, end=self._end,
            take_plan=self.take_latent_plan, reader=self._reader,
        ), None  # fmt: skip


class LatentTrainedMixin(LatentMixin):
    """Of a latent-trained model, whose directory has a head."""

    def _new_head(self, vllm_config: Any) -> tuple[Head, int]:
        """What the directory has, if its markers are those of the engine."""
        base: Any = self
        manifest = Capabilities.from_config(vllm_config).latent
        assert manifest is not None
        self._check_markers(manifest.start, manifest.end)
        model = str(base.model_config.model)
        head = load_head(model, manifest, base.inputs_embeds_size, base.device)
        for name, parameter in head.named_parameters():
            outlive_sleep(base.model, f"head_{name.replace('.', '_')}", parameter.data)
        return head, manifest.max_steps

    def _new_reader(self, vllm_config: Any) -> StepReader | None:
        base: Any = self
        manifest = Capabilities.from_config(vllm_config).latent
        assert manifest is not None
        reader = load_reader(str(base.model_config.model), manifest, base.dtype, base.device)
        for name, tensor in reader.tensors() if reader else ():
            outlive_sleep(base.model, f"reader_{name.replace('.', '_')}", tensor)
        return reader

    def _check_markers(self, start: str, end: str) -> None:
        from vllm.tokenizers import cached_tokenizer_from_config

        base: Any = self
        tokenizer = cached_tokenizer_from_config(base.model_config)
        wanted = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (start, end)]
        if wanted != [self._marker_ids.start, self._marker_ids.natural_end]:
            raise PluginError(
                f"the model was trained to think between {start!r} and {end!r}, which are not the "
                f"engine's markers; start it with --reasoning-start '{start}' --reasoning-end "
                f"'{end}', and without a reasoning parser of others"
            )
