"""Requests as admission gets them, and engines that admit them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from sottovoce_router import Capabilities
from sottovoce_router.admission import admit
from sottovoce_router.params import STAMP

SOFT = Capabilities(refusal=None, ledger_entries=1000, ledger_positions=100, max_model_len=200)
PLAIN = dataclasses.replace(SOFT, refusal="needs markers; set some")


@dataclass
class Sampling:
    """The part of vLLM's SamplingParams that admission touches."""

    extra_args: dict[str, Any] | None = None
    num_logprobs: int | None = None
    max_tokens: int | None = 50
    all_stop_token_ids: set[int] = field(default_factory=set)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    repetition_detection: Any = None
    temperature: float = 0.6


def request(sampling: Any, embeds: Any = None, last: int = 7) -> Any:
    """A request with a prompt of 20 tokens."""
    return SimpleNamespace(
        sampling_params=sampling, prompt_token_ids=[7] * 19 + [last], prompt_embeds=embeds
    )


def admitted(
    extra: dict[str, Any] | None, capabilities: Capabilities = SOFT, **sampling: Any
) -> Sampling:
    params = Sampling(extra, **sampling)
    admit(request(params), capabilities)
    return params


def stamp_of(sampling: Sampling) -> dict[str, Any]:
    assert sampling.extra_args is not None
    stamp: dict[str, Any] = sampling.extra_args[STAMP]
    return stamp
