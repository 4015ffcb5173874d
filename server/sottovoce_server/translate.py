"""A request as a client sent it, turned into the request that vLLM's own endpoints understand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sottovoce_router import (
    BUDGET_KEY,
    REQUEST_KEYS,
    SOFT_SAMPLING_DEFAULTS,
    Capabilities,
    InvalidValueError,
    RoutingParams,
    UnsupportedModeError,
    parse,
)

from .effort import effort_budget, given_budget
from .savings import CONTROL, CONTROL_MODE

GENERATION_ROUTES: dict[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/batch": "batch",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
SAGEMAKER_ROUTE = "/invocations"
_MODE_KEYS = tuple(key for key in REQUEST_KEYS if key != "include_reasoning_trace")
_NO_BUDGET_FIELD = ("responses", "messages")  # that takes any number
_NO_SHARES: Mapping[str, float] = MappingProxyType({})
# Anthropic's protocol has no min_p.
_UNKNOWN_SAMPLING: dict[str, frozenset[str]] = {"messages": frozenset({"min_p"})}


@dataclass(frozen=True)
class Translation:
    """What vLLM gets, and what the response has to say about it."""

    body: dict[str, Any]
    endpoint: str
    params: RoutingParams
    num_prompts: int = 1
    num_per_prompt: int = 1
    includes_usage: bool = False
    searches_beams: bool = False
    arm: str | None = None
    thinking_budget: int | None = None  # tokens

    @property
    def num_choices(self) -> int:
        """Choices that the response is going to have."""
        return self.num_prompts * self.num_per_prompt


def endpoint_of(path: str, body: Mapping[str, Any]) -> str | None:
    """The kind of a generation request; None where vLLM's own answer is left alone."""
    if path == SAGEMAKER_ROUTE:
        return "chat" if "messages" in body else "completions" if "prompt" in body else None
    return GENERATION_ROUTES.get(path)


def leaves_mode(body: Mapping[str, Any]) -> bool:
    """Whether a request is served as well in either arm: nothing in it asks for a mode or needs one."""
    xargs = body.get("vllm_xargs")
    holders = [body, xargs] if isinstance(xargs, dict) else [body]
    asks = any(holder.get(key) is not None for holder in holders for key in _MODE_KEYS)
    return not asks and not body.get("use_beam_search")


def _requested(body: Mapping[str, Any], default_mode: str) -> dict[str, Any]:
    """Our keys: from vllm_xargs, overridden by top-level fields."""
    xargs = body.get("vllm_xargs")
    if xargs is not None and not isinstance(xargs, dict):
        raise InvalidValueError("vllm_xargs", xargs, "must be an object")
    found = {key: xargs[key] for key in REQUEST_KEYS if key in xargs} if xargs else {}
    found.update({key: body[key] for key in REQUEST_KEYS if body.get(key) is not None})
    # Those that name no mode have one of their own.
    if all(found.get(key) is None for key in ("reasoning_mode", "shortcuts", "latent")):
        found["reasoning_mode"] = default_mode
    return found


def _others(xargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (xargs or {}).items() if key not in REQUEST_KEYS}


def _xargs(params: RoutingParams) -> dict[str, Any]:
    """The same keys in the scalar types that `vllm_xargs` carries."""
    if not params.needs_plugin and params.min_answer_tokens is None:
        return {}
    out: dict[str, Any] = {"reasoning_mode": params.mode}
    if params.is_soft_capable or params.min_answer_tokens is not None:
        out["routing"] = json.dumps(params.as_routing())
    for key, trained in params.trained.items():
        out[key] = json.dumps(trained.as_dict())
    if params.trace:
        out["include_reasoning_trace"] = 1
    return out


def _check(params: RoutingParams, body: Mapping[str, Any], capabilities: Capabilities) -> None:
    if params.is_soft_capable and capabilities.refusal:
        raise UnsupportedModeError(params.mode, capabilities.refusal)
    if body.get("use_beam_search") and params.needs_plugin:
        extra = "a reasoning trace" if params.trace else "routing.min_answer_tokens"
        extra = next(iter(params.trained), extra)
        asked = f"reasoning_mode {params.mode}" if params.is_soft_capable else extra
        raise InvalidValueError("use_beam_search", True, f"is not served with {asked}; drop one")


def _num_prompts(body: Mapping[str, Any], endpoint: str) -> int:
    key = {"completions": "prompt", "batch": "messages"}.get(endpoint, "")
    prompts = body.get(key)
    is_list = isinstance(prompts, list) and bool(prompts) and not isinstance(prompts[0], int)
    return len(prompts) if is_list and prompts else 1


def _count(n: Any) -> int:
    """`n` as pydantic reads it: a number in a string counts."""
    try:
        return int(n or 1)
    except (TypeError, ValueError, OverflowError):  # which vLLM then refuses
        return 1


def _add_soft_sampling(
    out: dict[str, Any], endpoint: str, server_sampling: Mapping[str, Any]
) -> None:
    unknown = _UNKNOWN_SAMPLING.get(endpoint, frozenset())
    for key, value in SOFT_SAMPLING_DEFAULTS.items():
        if out.get(key) is None and key not in server_sampling and key not in unknown:
            out[key] = value


def _includes_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _set_budget(
    out: dict[str, Any],
    xargs: dict[str, Any],
    endpoint: str,
    capabilities: Capabilities,
    shares: Mapping[str, float],
) -> int | None:
    """Turn an effort into a thinking budget unless there is one; returns the one that holds."""
    holder = xargs if endpoint in _NO_BUDGET_FIELD else out
    if holder is xargs and out.get(BUDGET_KEY) is not None:
        xargs.setdefault(BUDGET_KEY, out.pop(BUDGET_KEY))
    given = given_budget(out, endpoint)
    given = xargs.get(BUDGET_KEY) if given is None else given
    if given == -1:  # unlimited; vLLM's own field says so itself
        xargs.pop(BUDGET_KEY, None)
    if given is not None:
        return given if isinstance(given, int) and given >= 0 else None
    if not capabilities.num_end_tokens or out.get("use_beam_search"):
        return None
    budget = effort_budget(out, endpoint, shares, capabilities.max_model_len)
    if budget is not None:
        holder[BUDGET_KEY] = budget
    return budget


def translate(
    body: dict[str, Any],
    endpoint: str,
    capabilities: Capabilities,
    server_sampling: Mapping[str, Any],
    default_mode: str = "explicit",
    default_routing: Mapping[str, Any] | None = None,
    arm: str | None = None,
    effort_shares: Mapping[str, float] = _NO_SHARES,
) -> Translation:
    """Validate our fields and move them where the plugin reads them.

    Args:
        server_sampling: sampling defaults of the model's generation configuration.
        default_routing: the model's own routing defaults, validated.
        effort_shares: see `effort`.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    requested = _requested(body, CONTROL_MODE if arm == CONTROL else default_mode)
    params = parse(requested, default_routing or {}, capabilities.shortcuts, capabilities.latent)
    _check(params, body, capabilities)
    out = {key: value for key, value in body.items() if key not in REQUEST_KEYS}
    if params.is_soft_capable or arm == CONTROL:  # arms that sampled otherwise would compare that
        _add_soft_sampling(out, endpoint, server_sampling)
    others = _others(out.pop("vllm_xargs", None)) | _xargs(params)
    budget = _set_budget(out, others, endpoint, capabilities, effort_shares)
    out |= {"vllm_xargs": others} if others else {}
    return Translation(
        out,
        endpoint,
        params,
        num_prompts=_num_prompts(body, endpoint),
        num_per_prompt=_count(body.get("n")),
        includes_usage=_includes_usage(body),
        searches_beams=bool(body.get("use_beam_search")),
        arm=arm,
        thinking_budget=budget,
    )
