"""The reasoning markers of an engine's model, and what may stand for a latent step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.config import VllmConfig


@dataclass(frozen=True)
class MarkerIds:
    """Token ids of the reasoning markers."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    natural_end: tuple[int, ...]


def marker_ids(config: VllmConfig) -> MarkerIds | None:
    """The markers of vLLM's reasoning configuration; None where the model has none."""
    reasoning = config.reasoning_config
    if reasoning is None or not reasoning.enabled:
        return None
    return MarkerIds(
        tuple(reasoning.reasoning_start_token_ids or ()),
        tuple(reasoning.reasoning_end_token_ids or ()),
        tuple(reasoning.natural_reasoning_end_token_ids or ()),
    )


@functools.lru_cache(maxsize=8)
def placeholders_in(tokenizer: Any, markers: MarkerIds) -> tuple[int, ...]:
    """Special tokens that may stand for a latent step in a request that they do not end, best first."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*tokenizer.all_special_ids, *(i for i in added if added[i].special)}
    special -= {*markers.start, *markers.end, *markers.natural_end}
    pad = tokenizer.pad_token_id
    return tuple(sorted(special, key=lambda i: (i != pad, i)))


def placeholders(config: VllmConfig) -> tuple[int, ...]:
    """Those of an engine's model, which has markers."""
    from vllm.tokenizers import cached_tokenizer_from_config

    markers = marker_ids(config)
    assert markers is not None
    found = placeholders_in(cached_tokenizer_from_config(config.model_config), markers)
    # A tokenizer may have tokens that the model was never given rows for.
    return tuple(i for i in found if i < config.model_config.get_vocab_size())
