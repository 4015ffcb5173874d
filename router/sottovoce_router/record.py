"""The routing record on its way out: it rides at the end of vLLM's log-probability rows.

A row that carries one ends in minus the record's width, which no token id can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sottovoce_kernels import RECORD_EXTRA, Cause, Record, Route

if TYPE_CHECKING:
    import torch
    from vllm.v1.outputs import LogprobsLists, LogprobsTensors

ROUTE_NAMES: dict[int, str] = {
    int(Route.SOFT): "soft",
    int(Route.DISCRETE): "discrete",
    int(Route.FORCED): "forced",
    int(Route.LATENT): "latent",
}
CAUSE_NAMES: dict[int, str] = {
    int(Cause.BUDGET): "budget",
    int(Cause.COLD_STOP): "cold_stop",
    int(Cause.SWITCH_BUDGET): "switch_budget",
    int(Cause.MIN_ANSWER): "min_answer",
}


class Step(NamedTuple):
    """One generated token: what the router did, and the alternatives of a traced request."""

    token_id: int
    route: str | None  # None: outside the thinking phase
    p_max: float
    entropy: float  # nats
    alternatives: tuple[tuple[int, float], ...] = ()  # (token id, weight)
    cause: str | None = None  # of a forced end, at its first step
    takes_slot: bool = False  # the first step since the request came, or came back
    num_skipped: int = 0  # layers that the position before the token skipped
    text: tuple[int, ...] | None = None  # token ids of what a latent was read as; None: it was not


def attach(user: LogprobsTensors | None, record: Record, sampled: Any) -> LogprobsTensors:
    """Append the record's columns to the rows that users asked for; without any, to nothing."""
    import torch

    from .packed import RecordTensors

    if user is None:
        return RecordTensors(record.ids, record.values, sampled)
    return user._replace(
        logprob_token_ids=torch.cat([user.logprob_token_ids, record.ids], dim=1),
        logprobs=torch.cat([user.logprobs, record.values], dim=1),
    )


def with_texts(
    record: Record, rows: torch.Tensor, texts: torch.Tensor, is_read: torch.Tensor
) -> Record:
    """The record with texts, int64 [n, T], -1 past the end of each, in rows [n] where bool [n] is true."""
    import torch

    length = texts.shape[1]
    ids = record.ids.new_zeros(len(record.ids), length)
    values = record.values.new_zeros(len(record.values), length)
    ids[rows] = texts
    wider = Record(
        torch.cat([record.ids[:, :-1], ids, record.ids[:, -1:] - length], dim=1),
        torch.cat([record.values[:, :-1], values, record.values[:, -1:]], dim=1),
    )
    wider.values[rows, -1] = length * is_read.to(values.dtype)
    return wider


def _start(lists: LogprobsLists) -> int:
    """The record's first column, or how many columns there are if there is no record."""
    ids = lists.logprob_token_ids
    return int(ids.shape[1] + min(ids[0, -1], 0)) if ids.size else int(ids.shape[1])


def rows(lists: LogprobsLists) -> list[Any]:
    """The raw records at the end of the rows, ids and values of each; none if there is none."""
    ids, values, start = lists.logprob_token_ids, lists.logprobs, _start(lists)
    if start == ids.shape[1]:
        return []
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return [[i[start:], v[start:]] for i, v in pairs]


def strip(lists: LogprobsLists) -> LogprobsLists:
    """The users' columns alone."""
    start = _start(lists)
    return lists._replace(
        logprob_token_ids=lists.logprob_token_ids[:, :start], logprobs=lists.logprobs[:, :start]
    )


def decode(token_id: int, raw: Sequence[Any], is_traced: bool = True) -> Step:
    """A raw row as a step; rows are as wide as the batch's widest trace, whoever asked for it."""
    ids, values = raw
    route, width = ids[0] % 8, ids[0] // 8 if is_traced else 0
    alternatives = tuple(zip(ids[2 : 2 + width], values[2 : 2 + width], strict=True))
    cause, takes_slot = CAUSE_NAMES.get(ids[1] % 8), ids[1] // 8 % 2 == 1
    name, num_skipped = ROUTE_NAMES.get(route), ids[1] // 16
    length = int(values[-1]) if is_traced else 0
    text = tuple(i for i in ids[-1 - length : -1] if i >= 0) if length else None
    return Step(
        token_id, name, values[0], values[1], alternatives, cause, takes_slot, num_skipped, text
    )


def width(trace_top_n: int) -> int:
    """Columns that a record with `trace_top_n` alternatives takes."""
    return RECORD_EXTRA + trace_top_n
