"""Admission: every request passes here in the server process, before the engine sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .answer import keep_by_budget, limit_of, num_kept
from .capabilities import Capabilities
from .errors import InvalidValueError
from .latent.admission import NO_STEPS, plan_steps
from .params import BUDGET_KEY, REQUEST_KEYS, STAMP, RoutingParams, parse, stamp_of
from .values import integer

_MAX_SEED = 2**63 - 1


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
    _check_seed(sampling)
    extra = sampling.extra_args or {}
    # A client must not be able to write the stamp itself.
    if STAMP in extra or BUDGET_KEY in extra:
        _take_budget(sampling, extra.get(BUDGET_KEY), capabilities)
        extra = {key: value for key, value in extra.items() if key not in (STAMP, BUDGET_KEY)}
        sampling.extra_args = extra
    params = parse(extra, manifest=capabilities.shortcuts, latent=capabilities.latent)
    is_unseen = params.policy == "observe" and not params.min_answer_tokens and capabilities.refusal
    if is_unseen or not params.needs_plugin:
        kept = num_kept(params.min_answer_tokens, request, capabilities)
        keep_by_budget(request, kept, capabilities)
        return
    rest = {key: value for key, value in extra.items() if key not in REQUEST_KEYS}
    sampling.extra_args = {**rest, STAMP: _stamp(request, params, capabilities)}


def _check_seed(sampling: Any) -> None:
    """vLLM adds a choice's index to the seed, and its worker dies of more than 64 bits."""
    if sampling.seed is not None and sampling.seed + sampling.n - 1 > _MAX_SEED:
        remedy = f"and its {sampling.n} choices pass {_MAX_SEED}; lower it"
        raise InvalidValueError("seed", sampling.seed, remedy)


def _stamp(request: Any, params: RoutingParams, capabilities: Capabilities) -> dict[str, Any]:
    """What the worker is told of an admitted request, whose log-probabilities are turned on."""
    sampling = request.sampling_params
    stamp: dict[str, Any] = {"ledger_bytes": 0}
    if params.shortcuts is not None:
        _check_prompt_logprobs(sampling)
    for key, trained in params.trained.items():
        stamp["latent"] = plan_steps(request, key, trained.steps, capabilities)
        if not stamp["latent"]["steps"]:  # else their number ends thinking
            keep_by_budget(request, num_kept(None, request, capabilities), capabilities)
    if params.policy is not None:
        _shorten(request, params, capabilities)
        params = _with_answer(request, params, capabilities)
        capabilities.check(params, sampling)
        stamp["ledger_bytes"] = capabilities.bytes_of(params, sampling.max_tokens or 0)
    stamp["params"] = params.as_dict()
    # The record rides on the log-probability channel, which opens only for who asks for logprobs.
    stamp["hides_logprobs"] = sampling.num_logprobs is None
    if stamp["hides_logprobs"]:
        sampling.logprobs = 0
    return stamp


def _take_budget(sampling: Any, budget: Any, capabilities: Capabilities) -> None:
    """The thinking budget of a protocol that has no field for it; one that is set wins."""
    if budget is None or sampling.thinking_token_budget is not None:
        return
    budget = integer(BUDGET_KEY, budget, 0, 2**31 - 1)
    if not capabilities.num_end_tokens:
        remedy = "needs a model with reasoning markers; start the server with --reasoning-parser"
        raise InvalidValueError(BUDGET_KEY, budget, remedy)
    sampling.thinking_token_budget = budget


def _check_prompt_logprobs(sampling: Any) -> None:
    if sampling.prompt_logprobs is not None:
        remedy = "is not served together with shortcuts; leave out one of them"
        raise InvalidValueError("prompt_logprobs", sampling.prompt_logprobs, remedy)


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
        fits = capabilities.usual_tokens(params)
        sampling.max_tokens = min(sampling.max_tokens or fits, fits)


def _with_answer(request: Any, params: RoutingParams, capabilities: Capabilities) -> RoutingParams:
    """The parameters with the tokens that are kept, counted from where generation ends."""
    if params.trained:
        return params
    kept = num_kept(params.min_answer_tokens, request, capabilities)
    if kept:
        request.sampling_params.max_tokens = limit_of(request, capabilities)
    return replace(params, min_answer_tokens=kept)


def latent_of(sampling: Any) -> dict[str, int]:
    """`steps`, the most latent steps that a request takes, and the `placeholder` of each."""
    found: dict[str, int] = (stamp_of(sampling) or {}).get("latent") or NO_STEPS
    return found


def is_student(sampling: Any) -> bool:
    """Whether a request has shortcuts."""
    stamp = stamp_of(sampling)
    return stamp is not None and stamp["params"]["shortcuts"] is not None


def block_keys(request: Any, end: int) -> tuple[Any, ...]:
    """What the hash of a stamped request's cache block needs besides its tokens.

    A block that may hold soft or latent inputs, or what skipped layers left, is its request's own;
    the student's prompts are shared among themselves, for no prompt skips a layer.

    Args:
        end: the position behind the block's last.
    """
    stamp, has_shortcuts = stamp_of(request.sampling_params), is_student(request.sampling_params)
    if stamp is None or (stamp["params"]["mode"] == "explicit" and not has_shortcuts):
        return ()
    if end > request.num_prompt_tokens:
        return (("sottovoce", request.request_id),)
    return (("sottovoce", "shortcuts"),) if has_shortcuts else ()
