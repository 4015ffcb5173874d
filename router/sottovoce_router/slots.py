"""Per-slot parameters on the host, mirrored to the device, and the state the kernels keep there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from vllm.logger import init_logger
from vllm.sampling_params import SamplingParams
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.buffer_utils import UvaBackedTensor

from sottovoce_kernels import (
    MAX_STOP_IDS,
    MAX_TOP_N,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Slots,
    State,
)
from sottovoce_kernels.layout import NEVER, NUM_FLOAT_PARAMS, NUM_INT_PARAMS, NUM_STATE

from .answer import close_at, lower_budget
from .ledger import Ledger
from .markers import MarkerIds
from .params import RoutingParams
from .phases import phase_at_end

logger = init_logger("vllm.sottovoce.slots")


def _close_at(params: RoutingParams, sampling: SamplingParams, markers: MarkerIds) -> int:
    """The generated position at which the end marker must begin, to leave room for the answer."""
    if not params.min_answer_tokens or sampling.max_tokens is None:
        return NEVER
    return close_at(int(sampling.max_tokens), params.min_answer_tokens, len(markers.end))


class SlotTable:
    """Which slots have a policy, with which parameters."""

    def __init__(self, num_slots: int, ledger: Ledger, device: torch.device) -> None:
        self._ints = UvaBackedTensor((num_slots, NUM_INT_PARAMS), dtype=torch.int32)
        self._floats = UvaBackedTensor((num_slots, NUM_FLOAT_PARAMS), dtype=torch.float32)
        self._stops = UvaBackedTensor((num_slots, MAX_STOP_IDS), dtype=torch.int32)
        self._state = torch.zeros((num_slots, NUM_STATE), dtype=torch.int32, device=device)
        self._ledger = ledger
        self._device = device
        self._started: list[tuple[int, Phase]] = []
        self._resumed: list[tuple[int, int, int]] = []  # slot, ledger row, position index
        self._slot_of: dict[str, int] = {}
        self._dirty = True
        self.has_policy = np.zeros(num_slots, dtype=bool)
        self.has_vectors = np.zeros(num_slots, dtype=bool)
        self.trace_top_n = np.zeros(num_slots, dtype=np.int32)
        self.tensors = self._mirror()

    def _mirror(self) -> Slots:
        return Slots(self._ints.gpu, self._floats.gpu, self._stops.gpu, self._state)

    def clear(self, req_id: str) -> None:
        """Forget the slot of a request that was removed from the batch."""
        slot = self._slot_of.pop(req_id, None)
        if slot is not None:
            self._disable(slot)

    def _disable(self, slot: int) -> None:
        if self.has_policy[slot]:
            self.has_policy[slot] = self.has_vectors[slot] = False
            self.trace_top_n[slot] = 0
            self._ints.np[slot, IntParam.POLICY] = Policy.NONE
            self._dirty = True

    def add(
        self,
        slot: int,
        req_id: str,
        params: RoutingParams | None,
        sampling: SamplingParams | None,
        tokens: Sequence[int],
        prompt_len: int,
        markers: MarkerIds,
    ) -> None:
        """Take a request into a slot, new or back from preemption."""
        self._disable(slot)
        if params is None or params.policy is None or sampling is None:
            return
        is_resumed = len(tokens) > prompt_len
        # A request that once ran without a row has no record to resume from, and stays explicit.
        is_lost = is_resumed and req_id not in self._ledger
        place = None if is_lost else self._place_of(req_id, params, sampling)
        if place is None:
            logger.warning("the ledger has no room: request %s runs as explicit", req_id)
            close = _close_at(params, sampling, markers)
            if close != NEVER:  # vLLM's sampler reads the budget after this
                lower_budget(sampling, close, tokens[:prompt_len], markers)
            return
        row, vector_row = place
        self._write(slot, params, sampling, row, prompt_len)
        self._ints.np[slot, IntParam.VECTOR_ROW] = vector_row
        self.has_vectors[slot] = params.mixes_all
        self._ints.np[slot, IntParam.CLOSE_AT] = _close_at(params, sampling, markers)
        self._slot_of[req_id] = slot
        if is_resumed:
            self._resumed.append((slot, row, len(tokens) - prompt_len - 1))
        else:
            self._started.append((slot, phase_at_end(tokens, markers)))

    def _place_of(
        self, req_id: str, params: RoutingParams, sampling: SamplingParams
    ) -> tuple[int, int] | None:
        """A request's row of the ledger and its first vector, -1 if it needs none; None: no room."""
        row = self._ledger.row_of(req_id)
        if row is None or not params.mixes_all:
            return None if row is None else (row, -1)
        vector_row = self._ledger.vectors_of(req_id, int(sampling.max_tokens or 0))
        if vector_row is None:
            self._ledger.release(req_id)
            return None
        return row, vector_row

    def _write(
        self, slot: int, params: RoutingParams, sampling: SamplingParams, row: int, prompt_len: int
    ) -> None:
        ints, floats = self._ints.np[slot], self._floats.np[slot]
        # Ids that no vocabulary has are no int32 either, and never generated.
        stops = sorted(i for i in sampling.all_stop_token_ids if 0 <= i < 2**31)
        reads_temperature = "mix_temperature" in params.spec.reads
        tempered = params.mix_temperature or sampling.temperature or 1.0
        ints[IntParam.POLICY] = params.spec.code
        ints[IntParam.TOP_N] = params.top_n
        # More filters nothing, nor does 0.
        ints[IntParam.TOP_K] = 0 if params.mixes_all else min(max(sampling.top_k, 0), MAX_TOP_N)
        ints[IntParam.RAW_CONFIDENCE] = params.confidence == "raw"
        ints[IntParam.COLD_STEPS] = params.cold_stop.steps
        ints[IntParam.LEDGER_ROW] = row
        ints[IntParam.PROMPT_LEN] = prompt_len
        ints[IntParam.NUM_STOP_IDS] = len(stops)
        ints[IntParam.WIDTH] = params.num_entries
        ints[IntParam.MAX_TOKENS] = sampling.max_tokens or NEVER
        ints[IntParam.WINDOW] = params.window
        ints[IntParam.SWITCH_BUDGET] = params.switch_budget
        ints[IntParam.ALL_PHASES] = params.phase == "all"
        floats[FloatParam.THRESHOLD] = params.threshold
        floats[FloatParam.TEMPERATURE] = tempered if reads_temperature else 1.0
        floats[FloatParam.TOP_P] = (
            2.0 if params.mixes_all else sampling.top_p
        )  # 2: no mass reaches it
        floats[FloatParam.MIN_P] = 0.0 if params.mixes_all else sampling.min_p
        floats[FloatParam.COLD_ENTROPY] = params.cold_stop.entropy
        floats[FloatParam.SOFT_SHARE] = params.soft_share
        floats[FloatParam.GUMBEL_TEMPERATURE] = params.gumbel_temperature
        floats[FloatParam.BETA] = params.beta
        floats[FloatParam.ENTROPY_THRESHOLD] = params.entropy_threshold
        floats[FloatParam.PUSH_OFF] = params.push_off
        floats[FloatParam.ENTER_BLEND] = params.enter_blend
        floats[FloatParam.EXIT_BLEND] = params.exit_blend
        self._stops.np[slot, : len(stops)] = stops
        self.has_policy[slot] = True
        self.trace_top_n[slot] = params.num_terms if params.trace else 0
        self._dirty = True

    def apply_staged_writes(self) -> None:
        """Mirror what changed to the device, without waiting for it."""
        if self._dirty:
            self._ints.copy_to_uva()
            self._floats.copy_to_uva()
            self._stops.copy_to_uva()
            self.tensors = self._mirror()
            self._dirty = False
        if self._started:
            fresh = np.zeros((len(self._started), NUM_STATE), dtype=np.int32)
            fresh[:, State.PHASE] = [phase for _, phase in self._started]
            self._state[self._to_device([s for s, _ in self._started])] = async_tensor_h2d(
                fresh, device=self._device
            )
            self._started.clear()
        if self._resumed:
            columns = zip(*self._resumed, strict=True)
            slots, rows, indices = (self._to_device(list(column)) for column in columns)
            self._state[slots] = self._ledger.tensors.state[rows, indices]
            self._resumed.clear()

    def _to_device(self, values: list[int]) -> torch.Tensor:
        indices: torch.Tensor = async_tensor_h2d(values, dtype=torch.int64, device=self._device)
        return indices
