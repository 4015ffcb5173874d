"""`mix_full`: the mixture of the whole vocabulary, as one matrix product for the rows that ask for it.

It goes to the ledger before anything is decided, and `mix` reads it from there.
"""

from __future__ import annotations

import torch

from .backend import uses_triton
from .layout import (
    MAX_LOGIT,
    MAX_STOP_IDS,
    FloatParam,
    IntParam,
    LedgerTensors,
    Phase,
    Slots,
    State,
)

_CPU_ROWS = 4096  # of the table, converted at a time


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
    """See `reference.mix_full`; rows that are not asked write what nobody reads, on a CPU nothing."""
    slot = slot_ids[rows]
    if not uses_triton(logits.device):  # where looking costs no wait
        phase, is_all = slots.state[slot, State.PHASE], slots.ints[slot, IntParam.ALL_PHASES] == 1
        is_asked = (phase == Phase.THINK) | (is_all & (phase != Phase.OVER))
        rows, slot = rows[is_asked], slot[is_asked]
        if rows.numel() == 0:
            return
    ints, position = slots.ints[slot], positions[rows] + 1
    weights = _weights(logits[rows], slots.floats[slot], ints, slots.stop_ids[slot], special)
    scales = scale / weights.sum(1, keepdim=True)
    here = weights[:, vocab_start : vocab_start + table.shape[0]]
    vectors = _product(here, table[: here.shape[1]]) * scales
    at = ints[:, IntParam.VECTOR_ROW] + position - ints[:, IntParam.PROMPT_LEN]
    unread = ledger.vectors.shape[0] - 1
    at = torch.where(position < prefill_lens[slot], unread, at)
    ledger.vectors.index_copy_(0, at.long(), vectors.to(ledger.vectors.dtype))


def _weights(
    logits: torch.Tensor,
    floats: torch.Tensor,
    ints: torch.Tensor,
    stop_ids: torch.Tensor,
    special: torch.Tensor,
) -> torch.Tensor:
    """Float32 [n, V]: exp((z - max z) / T), 0 for special and stop tokens."""
    z = logits.float().nan_to_num_(nan=-torch.inf, posinf=MAX_LOGIT, neginf=-torch.inf)
    z.clamp_(max=MAX_LOGIT).masked_fill_(special != 0, -torch.inf)
    lanes = torch.arange(MAX_STOP_IDS, device=z.device)
    is_real = (lanes < ints[:, IntParam.NUM_STOP_IDS, None]) & (stop_ids < z.shape[1])
    ban = torch.where(is_real, -torch.inf, torch.inf)
    z.scatter_reduce_(1, stop_ids.long().clamp(0, z.shape[1] - 1), ban, "amin")
    # A row with nothing to mix has no maximum, and is never fed.
    z.sub_(z.amax(1, keepdim=True).clamp(min=-3.0e38))
    return z.div_(floats[:, FloatParam.TEMPERATURE, None]).exp_()


def _product(weights: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Float32 [n, H] of float32 [n, V'], which it uses up, and a table of any type.

    A GPU takes the weights as a part rounded to the table's type and the rest, in one pass over the
    table, so that what is lost is the rest's rounding. A CPU may be ten times as slow at narrow
    types as at converting them.
    """
    if table.dtype == torch.float32:
        return weights @ table
    if not uses_triton(table.device):
        out = weights.new_zeros(len(weights), table.shape[1])
        for first in range(0, table.shape[0], _CPU_ROWS):
            part = slice(first, first + _CPU_ROWS)
            out += weights[:, part] @ table[part].float()
        return out
    high = weights.to(table.dtype)
    both = torch.cat([high, weights.sub_(high).to(table.dtype)])
    is_cpu = table.device.type == "cpu"  # the interpreter's, where the product has the table's type
    out = torch.mm(both, table) if is_cpu else torch.mm(both, table, out_dtype=torch.float32)
    return out.float().view(2, len(weights), -1).sum(0)
