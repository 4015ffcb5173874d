"""Random but hostile inputs for the routing ops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from sottovoce_kernels import layout
from sottovoce_kernels.layout import FloatParam, IntParam, Phase, Policy, State

PAGE = 64  # ledger positions
HIDDEN = 6
POLICIES = list(Policy)
PHASES = (Phase.THINK, Phase.THINK, Phase.BEFORE, Phase.ANSWER, Phase.OVER)


@dataclasses.dataclass
class Scene:
    """Everything `decide` takes besides a confidence."""

    logits: torch.Tensor
    sampled: torch.Tensor
    slot_ids: torch.Tensor
    positions: torch.Tensor
    prefill_lens: torch.Tensor
    seeds: torch.Tensor
    tokens: torch.Tensor
    slots: layout.Slots
    ledger: layout.LedgerTensors
    markers: layout.Markers
    record: layout.Record

    def clone(self) -> Scene:
        """A deep copy, since the ops work in place."""
        return self._each(torch.Tensor.clone)

    def on(self, device: str) -> Scene:
        """A deep copy on a device; the rows of logits stay as far apart."""

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            size = tensor.untyped_storage().nbytes() // tensor.element_size()
            whole = tensor.as_strided((size,), (1,), 0).to(device, copy=True)
            return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

        return self._each(copy)

    def _each(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> Scene:
        def walk(value: object) -> object:
            if isinstance(value, torch.Tensor):
                return copy(value)
            fields = {f.name: walk(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)

        return walk(self)


def make_slots(num_slots: int, vocab: int, g: torch.Generator) -> layout.Slots:
    ints = torch.zeros(num_slots, layout.NUM_INT_PARAMS, dtype=torch.int32)
    floats = torch.zeros(num_slots, layout.NUM_FLOAT_PARAMS)
    state = torch.zeros(num_slots, layout.NUM_STATE, dtype=torch.int32)
    for s in range(num_slots):
        ints[s, IntParam.POLICY] = POLICIES[s % len(POLICIES)]
        ints[s, IntParam.TOP_N] = (1, 3, 10, 32)[s % 4]
        ints[s, IntParam.TOP_K] = (0, 1, 5, 30)[(s // 2) % 4]
        ints[s, IntParam.RAW_CONFIDENCE] = s % 2
        ints[s, IntParam.COLD_STEPS] = (0, 1, 3)[s % 3]
        ints[s, IntParam.LEDGER_ROW], ints[s, IntParam.PROMPT_LEN] = num_slots - 1 - s, 5
        ints[s, IntParam.NUM_STOP_IDS] = s % 3
        ints[s, IntParam.MAX_TOKENS] = PAGE
        ints[s, IntParam.WINDOW] = (1, 3, 512)[s % 3]
        ints[s, IntParam.SWITCH_BUDGET] = (0, 2)[s % 2]
        ints[s, IntParam.CLOSE_AT] = 30 if s % 7 == 3 else layout.NEVER
        ints[s, IntParam.WIDTH] = ints[s, IntParam.TOP_N] + 1
        ints[s, IntParam.ALL_PHASES] = s % 5 in (1, 4)
        ints[s, IntParam.VECTOR_ROW] = s * PAGE if s % 3 == 2 else -1
        floats[s, FloatParam.THRESHOLD] = (0.3, 0.6, 0.9)[s % 3]
        floats[s, FloatParam.TEMPERATURE] = (0.6, 1.0, 1.7)[s % 3]
        floats[s, FloatParam.TOP_P] = (1.0, 0.95, 0.5)[(s // 3) % 3]
        floats[s, FloatParam.MIN_P] = (0.0, 0.001, 0.2)[(s // 2) % 3]
        floats[s, FloatParam.COLD_ENTROPY] = (0.01, 2.0)[(s // 5) % 2]
        floats[s, FloatParam.SOFT_SHARE] = 0.5
        floats[s, FloatParam.GUMBEL_TEMPERATURE] = (0.5, 1.0)[s % 2]
        floats[s, FloatParam.BETA] = (1.0, 0.0, 2.5)[s % 3]
        floats[s, FloatParam.ENTROPY_THRESHOLD] = (0.5, 0.2)[s % 2]
        floats[s, FloatParam.PUSH_OFF] = (1.0, 0.5, 0.0)[s % 3]
        floats[s, FloatParam.ENTER_BLEND] = (1.0, 0.6)[s % 2]
        floats[s, FloatParam.EXIT_BLEND] = (0.7, 1.0, 0.2)[s % 3]
        state[s, State.PHASE] = PHASES[(s // 4) % len(PHASES)]
        state[s, State.COLD_COUNT] = s % 4
        state[s, State.FORCING] = s % 11 == 7 and state[s, State.PHASE] in (1, 2)
    stops = torch.randint(0, vocab, (num_slots, layout.MAX_STOP_IDS), generator=g)
    state[:, State.STAY] = torch.tensor([0, -2, 3, 600, 1])[torch.arange(num_slots) // 3 % 5]
    state[:, State.SWITCHES] = torch.arange(num_slots) % 7
    references = torch.rand(num_slots, generator=g) * 4
    state[:, State.REFERENCE] = references.view(torch.int32)
    return layout.Slots(ints, floats, stops.int(), state)


def make_logits(rows: int, vocab: int, dtype: torch.dtype, g: torch.Generator) -> torch.Tensor:
    """Peaked, flat, tied and masked rows; a view with an odd row stride."""
    z = torch.randn(rows, vocab + 3, generator=g) * 3
    for r in range(rows):
        if r % 5 == 1:
            z[r, int(torch.randint(0, vocab, (1,), generator=g))] += 25.0
        if r % 5 == 2:
            z[r] = (z[r] * 2).round() / 2  # ties
        if r % 5 == 3:
            z[r, torch.rand(vocab + 3, generator=g) < 0.7] = -math.inf
            z[r, vocab - 1] = 1.0
        if r % 17 == 9:
            z[r, vocab // 2] = 1.0e9  # forced by a thinking budget
        if r % 17 == 11:
            z[r, vocab // 3] = math.inf  # a repetition penalty near 0
    return z.to(dtype)[:, :vocab]


def make_scene(rows: int, vocab: int, dtype: torch.dtype, seed: int = 0, trace: int = 10) -> Scene:
    g = torch.Generator().manual_seed(seed)
    num_slots = rows + 3
    slots = make_slots(num_slots, vocab, g)
    special = torch.zeros(vocab, dtype=torch.uint8)
    special[torch.randint(0, vocab, (max(vocab // 20, 1),), generator=g)] = 1
    length = 5 + PAGE
    tokens = torch.randint(0, vocab, (num_slots, length), generator=g).int()
    end = torch.randint(0, vocab, (2,), generator=g).int()
    phrase = torch.randint(0, vocab, (2,), generator=g).int()
    positions = torch.randint(4, length - 2, (rows,), generator=g)
    prefill = torch.full((num_slots,), 5, dtype=torch.int32)
    prefill[torch.rand(num_slots, generator=g) < 0.15] = length  # a chunk of a longer prefill
    slot_ids = torch.randperm(num_slots, generator=g)[:rows]
    sampled = torch.randint(0, vocab, (rows,), generator=g)
    for r in range(0, rows, 6):  # a marker completed by the sampled token
        tokens[slot_ids[r], positions[r]] = end[0]
        sampled[r] = end[1]
    poison = torch.full((num_slots, PAGE * layout.MAX_TERMS), -777, dtype=torch.int32)
    ledger = layout.LedgerTensors(
        ids=poison,
        weights=torch.full((num_slots, PAGE * layout.MAX_TERMS), math.nan),
        counts=torch.full((num_slots, PAGE), -777, dtype=torch.int32),
        state=torch.full((num_slots, PAGE, layout.NUM_STATE), -777, dtype=torch.int32),
        vectors=torch.full((num_slots * PAGE + 1, HIDDEN), math.nan),
    )
    return Scene(
        logits=make_logits(rows, vocab, dtype, g),
        sampled=sampled,
        slot_ids=slot_ids,
        positions=positions,
        prefill_lens=prefill,
        seeds=torch.randint(-(2**62), 2**62, (num_slots,), generator=g),
        tokens=tokens,
        slots=slots,
        ledger=ledger,
        markers=layout.Markers(end[1:].clone(), end, end, special, torch.cat([end, phrase])),
        record=layout.Record.empty(rows, trace, torch.device("cpu")),
    )


def several_tokens(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of 36 requests, some with several tokens: where each begins, and the positions.

    A request's last token is the one after the scene's position.
    """
    lengths = torch.tensor([1, 3, 1, 1, 5, 1, 2, 1, 1] * 4)
    starts = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    ends = [(int(p) + 2, int(n)) for p, n in zip(scene.positions, lengths, strict=True)]
    return starts, torch.cat([torch.arange(end - n, end) for end, n in ends])


def thinking_state() -> torch.Tensor:
    """The state of a slot at its first thinking step."""
    state = torch.zeros(layout.NUM_STATE, dtype=torch.int32)
    state[State.PHASE] = Phase.THINK
    return state


def make_thinking_scene(policy: Policy, rows: int, vocab: int, seed: int = 0) -> Scene:
    """Every row in the thinking phase of one policy; nothing but a budget forces an end."""
    scene = make_scene(rows, vocab, torch.float32, seed)
    scene.slots.ints[:, IntParam.POLICY] = policy
    scene.slots.ints[:, IntParam.COLD_STEPS] = 0
    scene.slots.ints[:, IntParam.CLOSE_AT] = layout.NEVER
    scene.slots.ints[:, IntParam.VECTOR_ROW] = -1
    scene.slots.state[:] = thinking_state()
    scene.prefill_lens[:] = 5
    return scene


def make_swi_scene(stay: int, reference: float, switches: int = 0, budget: int = 0) -> Scene:
    """Every row in the same state: a window of 4 and blends of 0.6 and 0.7."""
    scene = make_thinking_scene(Policy.SWI, 60, 300)
    scene.slots.ints[:, IntParam.WINDOW] = 4
    scene.slots.ints[:, IntParam.SWITCH_BUDGET] = budget
    scene.slots.floats[:, FloatParam.TEMPERATURE] = 1.0
    scene.slots.floats[:, FloatParam.ENTER_BLEND] = 0.6
    scene.slots.floats[:, FloatParam.EXIT_BLEND] = 0.7
    scene.slots.state[:, State.STAY], scene.slots.state[:, State.SWITCHES] = stay, switches
    scene.slots.state[:, State.REFERENCE] = torch.tensor([reference]).view(torch.int32)
    return scene


def make_record(rows: list[tuple[int, list[tuple[int, float]]]], width: int) -> layout.Record:
    """A record of (route, alternatives) rows, as `decide` writes it."""
    record = layout.Record.empty(len(rows), width, torch.device("cpu"))
    record.ids[:, -1] = -record.ids.shape[1]
    for i, (route, alternatives) in enumerate(rows):
        record.ids[i, 0] = route + 8 * len(alternatives)
        record.values[i, 0], record.values[i, 1] = 0.5 + i, 1.5 + i
        for j, (token, weight) in enumerate(alternatives):
            record.ids[i, 2 + j], record.values[i, 2 + j] = token, weight
    return record
