"""`mix` and `mix_full` in plain torch, float32, one row at a time: what the kernels are held to."""

from __future__ import annotations

import math

import torch

from .layout import MAX_LOGIT, FloatParam, IntParam, LedgerTensors, Policy, Slots


def mix(
    embeds: torch.Tensor,
    table: torch.Tensor,
    slot_ids: torch.Tensor,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    scale: float = 1.0,
    vocab_start: int = 0,
) -> None:
    """Overwrite the soft rows of `embeds` with sum_i w_i E[id_i], summed in float32.

    The entry of a vector has w_0 alone, and the vector the rest: w_0 E[id_0] + (1 - w_0) vector.

    Args:
        embeds: [T, H], the ordinary input embeddings of the batch, updated in place.
        table: [V', H], the embedding rows vocab_start .. vocab_start + V' - 1.
        slot_ids: int64 [B]; query_start_loc: int32 [B + 1]; positions: int64 [T].
        scale: what the model multiplies its embedding rows with; vectors have it already.
    """
    starts = query_start_loc.tolist()
    for row, slot in enumerate(slot_ids.tolist()):
        ints = slots.ints[slot]
        if int(ints[IntParam.POLICY]) == Policy.NONE:
            continue
        ledger_row, n = int(ints[IntParam.LEDGER_ROW]), int(ints[IntParam.WIDTH])
        for t in range(starts[row], starts[row + 1]):
            index = int(positions[t]) - int(ints[IntParam.PROMPT_LEN])
            count = int(ledger.counts[ledger_row, index]) if index >= 0 else 0
            if count == 0:
                continue
            entry = slice(index * n, index * n + abs(count))
            ids = ledger.ids[ledger_row, entry].long() - vocab_start
            w = ledger.weights[ledger_row, entry]
            is_here = (ids >= 0) & (ids < table.shape[0])
            total = scale * (w[is_here, None] * table[ids[is_here]].float()).sum(0)
            if count < 0:
                total += (1 - w) * ledger.vectors[int(ints[IntParam.VECTOR_ROW]) + index].float()
            embeds[t] = total.to(embeds.dtype)


def mix_full(
    logits: torch.Tensor,
    rows: torch.Tensor,
    slot_ids: torch.Tensor,
    positions: torch.Tensor,
    prefill_lens: torch.Tensor,
    slots: Slots,
    ledger: LedgerTensors,
    table: torch.Tensor,
    special: torch.Tensor,
    scale: float = 1.0,
    vocab_start: int = 0,
) -> None:
    """Write the mixture of the whole vocabulary, softmax(z / T) E, to some rows' next vectors.

    Special and stop tokens are left out of the softmax. A row that samples nothing writes nothing.

    Args:
        logits: [B, V], as `confidence` reads them; rows: int64 [n], those that ask for it.
        slot_ids: int64 [B]; positions: int64 [B], of the last input token.
        prefill_lens: int32 [max_num_reqs]; special: uint8 [V].
        ledger: its vectors are updated in place, in their own type.
        table: [V', H], the embedding rows vocab_start .. vocab_start + V' - 1; a vector is the part
            of the mixture that they make.

    Source: SwiReasoning (2510.05069).
    """
    for row in rows.tolist():
        slot, position = int(slot_ids[row]), int(positions[row]) + 1
        if position < int(prefill_lens[slot]):
            continue
        ints, never_mixed = slots.ints[slot], special != 0
        stops = slots.stop_ids[slot, : int(ints[IntParam.NUM_STOP_IDS])].long()
        never_mixed[stops[stops < never_mixed.numel()]] = True
        z = logits[row].float()
        z = torch.where(z.isnan() | never_mixed, -math.inf, z.clamp(max=MAX_LOGIT))
        p = torch.softmax(z / slots.floats[slot, FloatParam.TEMPERATURE], 0)
        vector = scale * (p[vocab_start : vocab_start + table.shape[0]] @ table.float())
        at = int(ints[IntParam.VECTOR_ROW]) + position - int(ints[IntParam.PROMPT_LEN])
        ledger.vectors[at] = vector
