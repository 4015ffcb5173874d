"""Tokens of a request that thinking leaves for the answer, whoever ends thinking in time.

A request with a policy is closed by its kernel, at one generated position. Any other gets a thinking
budget, which vLLM counts from where thinking starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce_kernels import Phase

from .phases import count_thought, phase_at_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .capabilities import Capabilities
    from .markers import MarkerIds

_SHARE = 4  # an engine's own number takes at most one of so many tokens


def limit_of(request: Any, capabilities: Capabilities) -> int:
    """Tokens that a request may generate: its max_tokens, and what the prompt leaves of the context."""
    room = max(capabilities.max_model_len - len(request.prompt_token_ids or ()), 1)
    asked = request.sampling_params.max_tokens
    return room if asked is None else min(asked, room)


def num_kept(asked: int | None, request: Any, capabilities: Capabilities) -> int:
    """Tokens to keep: what the request asks for, else the engine's own number where that can be kept.

    A request of one or two tokens keeps none: it could not think at all.
    """
    if asked is not None:
        return asked
    if not capabilities.min_answer_tokens or capabilities.markers is None:
        return 0
    sampling, most = request.sampling_params, limit_of(request, capabilities)
    is_bound = sampling.structured_outputs is not None and not capabilities.grammar_waits
    is_told = bool(sampling.trace_decode_token_ids)  # what to generate
    if is_bound or is_told or most < capabilities.num_end_tokens + 2:
        return 0
    return min(capabilities.min_answer_tokens, max(most // _SHARE, 1))


def close_at(max_tokens: int, kept: int, num_end: int) -> int:
    """The generated position at which the end marker must begin."""
    return max(max_tokens - kept - num_end, 0)


def keep_by_budget(request: Any, kept: int, capabilities: Capabilities) -> None:
    """Lower a request's thinking budget, or set one, so that `kept` tokens are left."""
    if not kept or capabilities.markers is None:
        return
    close = close_at(limit_of(request, capabilities), kept, capabilities.num_end_tokens)
    prompt = request.prompt_token_ids or ()
    lower_budget(request.sampling_params, close, prompt, capabilities.markers)


def lower_budget(sampling: Any, close: int, prompt: Sequence[int], markers: MarkerIds) -> None:
    """Let thinking end at a generated position: by what the prompt has thought already, if any."""
    is_open = phase_at_end(prompt, markers) == Phase.THINK
    before = count_thought(prompt, markers) if is_open else -len(markers.start)
    budget, given = max(close + before, 0), sampling.thinking_token_budget
    sampling.thinking_token_budget = budget if given is None or given < 0 else min(given, budget)
