"""A batch in which every row thinks, and one step of the routing ops over it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sottovoce_kernels import Confidence, confidence, decide, layout, mix
from sottovoce_kernels.confidence import GROUP
from sottovoce_kernels.layout import FloatParam, IntParam, Phase, Policy, State

_PROMPT_LEN = 8


@dataclass(frozen=True)
class Shape:
    """What a step's cost depends on."""

    rows: int
    vocab: int
    top_n: int
    hidden: int
    dtype: torch.dtype  # of the embedding table; the logits are float32, as vLLM samples from them

    def num_bytes(self) -> dict[str, int]:
        """Bytes that the ops must move, each tensor once where it is read and where it is written.

        The parameters of a slot, some hundred bytes a row, are left out.
        """
        size, b, n = torch.float32.itemsize, self.rows, self.top_n
        candidates = b * (layout.MAX_TOP_N * 8 + 12)
        maxima = b * -(-self.vocab // GROUP) * 4
        # The groups that hold the best are read again.
        again = b * min(layout.MAX_TOP_N * GROUP, self.vocab) * size
        entry = b * (n * 8 + 4)
        return {
            "read": b * self.vocab * size,
            "confidence": b * self.vocab * size + 2 * maxima + again + candidates,
            "decide": candidates
            + entry
            + b * (4 * layout.NUM_STATE + 12 * (n + layout.RECORD_EXTRA)),
            "mix": entry + b * (n + 1) * self.hidden * self.dtype.itemsize,
        }

    def over_read(self) -> float:
        """Bytes of a routing step over those of reading its logits once."""
        found = self.num_bytes()
        return (sum(found.values()) - found["read"]) / found["read"]


def _slots(shape: Shape, device: torch.device) -> layout.Slots:
    ints = torch.zeros(shape.rows, layout.NUM_INT_PARAMS, dtype=torch.int32)
    floats = torch.zeros(shape.rows, layout.NUM_FLOAT_PARAMS)
    state = torch.zeros(shape.rows, layout.NUM_STATE, dtype=torch.int32)
    ints[:, IntParam.POLICY] = Policy.SOFT
    ints[:, IntParam.TOP_N] = ints[:, IntParam.WIDTH] = shape.top_n
    ints[:, IntParam.LEDGER_ROW] = torch.arange(shape.rows)
    ints[:, IntParam.PROMPT_LEN] = _PROMPT_LEN
    ints[:, IntParam.CLOSE_AT] = ints[:, IntParam.MAX_TOKENS] = layout.NEVER
    ints[:, IntParam.VECTOR_ROW] = -1
    floats[:, FloatParam.TEMPERATURE] = 0.6
    floats[:, FloatParam.TOP_P] = 2.0  # so that every one of the top n is mixed
    state[:, State.PHASE] = Phase.THINK
    stops = torch.zeros(shape.rows, layout.MAX_STOP_IDS, dtype=torch.int32)
    return layout.Slots(ints.to(device), floats.to(device), stops.to(device), state.to(device))


def _ledger(shape: Shape, context: int, device: torch.device) -> layout.LedgerTensors:
    def zeros(*size: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.zeros(size, dtype=dtype, device=device)

    return layout.LedgerTensors(
        zeros(shape.rows, context * shape.top_n),
        zeros(shape.rows, context * shape.top_n, dtype=torch.float32),
        zeros(shape.rows, context),
        zeros(shape.rows, context, layout.NUM_STATE),
        zeros(1, shape.hidden, dtype=shape.dtype),
    )


class Batch:
    """Copies of the logits, to be read in turn, and all else that the ops take.

    The marker is one id that is never likely, and nothing stops early, so every step is like the
    first however often it is run.
    """

    def __init__(
        self, shape: Shape, num_copies: int, device: torch.device, context: int = 64
    ) -> None:
        """Make one, of requests that may generate `context` tokens."""
        self.shape = shape
        self.logits = torch.randn(num_copies, shape.rows, shape.vocab, device=device)
        self.logits.mul_(3.0)[..., -1] = -100.0
        self.slots, self.ledger = _slots(shape, device), _ledger(shape, context, device)
        self.slot_ids = torch.arange(shape.rows, device=device)
        self.positions = torch.full((shape.rows,), _PROMPT_LEN, device=device)
        self.next_positions = self.positions + 1  # where what a step decides is read
        self.sampled = torch.zeros(shape.rows, dtype=torch.int64, device=device)
        self.prefill_lens = torch.full((shape.rows,), _PROMPT_LEN, device=device).int()
        self.seeds = torch.zeros(shape.rows, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(shape.rows, _PROMPT_LEN + context, device=device).int()
        marker = torch.tensor([shape.vocab - 1], dtype=torch.int32, device=device)
        special = torch.zeros(shape.vocab, dtype=torch.uint8, device=device)
        self.markers = layout.Markers(marker, marker, marker, special, marker)
        self.record = layout.Record.empty(shape.rows, shape.top_n, device)
        self.starts = torch.arange(shape.rows + 1, device=device).int()
        self.table = torch.randn(shape.vocab, shape.hidden, dtype=shape.dtype, device=device)
        self.embeds = torch.zeros(shape.rows, shape.hidden, dtype=shape.dtype, device=device)

    def confidence(self, copy: int) -> Confidence:
        """A step's part that reads the logits."""
        return confidence(self.logits[copy], self.slot_ids, self.slots)

    def step(self, copy: int) -> None:
        """One step: the logits of a copy to the soft rows of the next step's input embeddings."""
        conf = self.confidence(copy)
        decide(
            conf, self.sampled, self.slot_ids, self.positions, self.prefill_lens, self.seeds,
            self.tokens, self.slots, self.ledger, self.markers, self.record,
        )  # fmt: skip
        mix(
            self.embeds, self.table, self.slot_ids, self.starts, self.next_positions, self.slots,
            self.ledger,
        )  # fmt: skip

    def go_to(self, generated: int) -> None:
        """Let the next step be the one after so many generated tokens."""
        self.positions.fill_(_PROMPT_LEN + generated)
        self.next_positions.fill_(_PROMPT_LEN + generated + 1)

    def fill_ledger(self) -> None:
        """As if all steps had been soft, with all their terms, each a token of its own."""
        self.ledger.ids.random_(self.shape.vocab)
        self.ledger.weights.fill_(1.0 / self.shape.top_n)
        self.ledger.counts.fill_(self.shape.top_n)

    def replay(self, embeds: torch.Tensor) -> None:
        """Mix anew the inputs of the first request's generated positions, [T, hidden] of them."""
        num = embeds.shape[0]
        positions = torch.arange(_PROMPT_LEN, _PROMPT_LEN + num, device=embeds.device)
        starts = torch.tensor([0, num], dtype=torch.int32, device=embeds.device)
        mix(embeds, self.table, self.slot_ids[:1], starts, positions, self.slots, self.ledger)
