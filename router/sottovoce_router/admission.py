"""Admission: every request passes here in the server process, before the engine sees it."""

from __future__ import annotations

from typing import Any

from .capabilities import Capabilities
from .errors import InvalidValueError
from .params import BUDGET_KEY, REQUEST_KEYS, STAMP, RoutingParams, parse
from .values import integer


def admit(request: Any, capabilities: Capabilities) -> None:
    """Check a request's routing keys and stamp what the worker needs on its sampling parameters.

    Args:
        request: vLLM's EngineCoreRequest, holding a private copy of the sampling parameters.

    Raises:
        RoutingError: the request is refused.
    """
    _check_prompt(request, capabilities)
    sampling = request.sampling_params
    if sampling is None:
        return
    extra = sampling.extra_args or {}
    # A client must not be able to write the stamp itself.
    if STAMP in extra or BUDGET_KEY in extra:
        _take_budget(sampling, extra.get(BUDGET_KEY), capabilities)
        extra = {key: value for key, value in extra.items() if key not in (STAMP, BUDGET_KEY)}
        sampling.extra_args = extra
    if not any(key in extra for key in REQUEST_KEYS):
        return
    params = parse(extra)
    if params.policy == "observe" and not params.min_answer_tokens and capabilities.refusal:
        return
    if params.policy is None:
        return
    _shorten(request, params, capabilities)
    capabilities.check(params, sampling)
    # The record rides on the log-probability channel, which opens only for who asks for logprobs.
    hides_logprobs = sampling.num_logprobs is None
    if hides_logprobs:
        sampling.logprobs = 0
    rest = {key: value for key, value in extra.items() if key not in REQUEST_KEYS}
    stamp = {
        "params": params.as_dict(),
        "hides_logprobs": hides_logprobs,
        "ledger_bytes": capabilities.bytes_of(params, sampling.max_tokens or 0),
    }
    sampling.extra_args = {**rest, STAMP: stamp}


def _take_budget(sampling: Any, budget: Any, capabilities: Capabilities) -> None:
    """The thinking budget of a protocol that has no field for it; one that is set wins."""
    if budget is None or sampling.thinking_token_budget is not None:
        return
    budget = integer(BUDGET_KEY, budget, 0, 2**31 - 1)
    if not capabilities.num_end_tokens:
        remedy = "needs a model with reasoning markers; start the server with --reasoning-parser"
        raise InvalidValueError(BUDGET_KEY, budget, remedy)
    sampling.thinking_token_budget = budget


def _check_prompt(request: Any, capabilities: Capabilities) -> None:
    if request.prompt_embeds is not None and capabilities.lacks_prompt_embeds:
        raise InvalidValueError(
            "prompt_embeds", "(a tensor)", "is not served on a CPU; send the prompt as text"
        )


def _shorten(request: Any, params: RoutingParams, capabilities: Capabilities) -> None:
    """Let a request that may fill the context, as one without max_tokens does, fill the ledger."""
    sampling, prompt = request.sampling_params, request.prompt_token_ids or ()
    if (
        sampling.max_tokens is None
        or len(prompt) + sampling.max_tokens == capabilities.max_model_len
    ):
        fits = capabilities.max_tokens(params)
        sampling.max_tokens = min(sampling.max_tokens or fits, fits)
    if params.min_answer_tokens:  # counted from where generation ends, which the context may bound
        room = max(capabilities.max_model_len - len(prompt), 1)
        sampling.max_tokens = min(sampling.max_tokens, room)


def is_soft_capable(sampling: Any) -> bool:
    """Whether a stamped request may feed soft inputs."""
    stamp = (sampling.extra_args or {}).get(STAMP) if sampling is not None else None
    return stamp is not None and stamp["params"]["mode"] != "explicit"
