"""OpenAI error bodies: one table from what went wrong to status, type and a code that stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sottovoce_router import RoutingError

_TYPES: dict[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "server_error",
    503: "service_unavailable_error",
}
# Codes for the errors that vLLM raises; its own `code` repeats the status.
_CODES: dict[int, str] = {
    400: "invalid_request",
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_request",
    429: "queue_full",
    500: "internal_error",
    501: "not_implemented",
    503: "unavailable",
}
# The same for what OpenAI's own API has a code for, by the parameter that vLLM names.
_CODES_BY_PARAM: dict[tuple[int, str | None], str] = {
    (400, "input_tokens"): "context_length_exceeded",
    (404, "model"): "model_not_found",
}
# Every code that an answer may carry; what another middleware or a later vLLM writes is "other".
CODES = frozenset(
    {"invalid_value", "unknown_parameter", "unsupported_reasoning_mode", "invalid_json", "draining"}
    | {*_CODES.values(), *_CODES_BY_PARAM.values()}
)
OTHER_CODE = "other"


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


@dataclass(eq=False)  # not frozen: raising an exception sets its traceback
class ApiError(Exception):
    """An error that the gateway answers itself."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The OpenAI error body."""
        error = {
            "message": self.message,
            "type": _type(self.status),
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()


def from_routing_error(error: RoutingError) -> ApiError:
    """A refusal at admission as an HTTP error."""
    return ApiError(400, error.code, str(error), error.param)


def invalid_json(reason: str) -> ApiError:
    """A body that is no JSON object."""
    return ApiError(400, "invalid_json", f"the body is no JSON object ({reason}); send one")


def not_finite(values: set[str]) -> ApiError:
    """Numbers that Python's parser takes and JSON does not have."""
    found = " and ".join(sorted(values))
    return ApiError(
        400, "invalid_json", f"the body is not valid JSON (it holds {found}); send finite numbers"
    )


def wrong_route(key: str, path: str, routes: list[str]) -> ApiError:
    """One of our fields where nothing would read it."""
    return ApiError(
        400,
        "unknown_parameter",
        f"{key} is not read by {path}; use one of {routes}, or put it into vllm_xargs",
        key,
    )


def body_too_large(limit: int) -> ApiError:
    """A body over the limit."""
    return ApiError(
        413,
        "body_too_large",
        f"the body is over {limit} bytes; send less, or raise --max-body-bytes",
    )


def bad_api_key() -> ApiError:
    """A missing or wrong key."""
    return ApiError(
        401,
        "invalid_api_key",
        "missing or wrong API key; send it as 'Authorization: Bearer KEY'",
        headers={"WWW-Authenticate": "Bearer"},
    )


def queue_full(limit: int) -> ApiError:
    """Too many requests in flight."""
    return ApiError(
        429,
        "queue_full",
        f"{limit} requests are in flight; retry later, or raise --max-queue",
        headers={"Retry-After": "1"},
    )


def draining() -> ApiError:
    """The server finishes what it accepted and takes no more."""
    return ApiError(
        503,
        "draining",
        "the server is shutting down; retry on another replica",
        headers={"Retry-After": "1"},
    )


def in_shape(status: int) -> Callable[[bytes], bytes]:
    """What makes an error body of vLLM's, or of its web framework, look like one of ours."""

    def reshape(body: bytes) -> bytes:
        try:
            data = json.loads(body)
        except ValueError:
            return body
        if isinstance(data, dict) and isinstance(data.get("detail"), str):
            data = {"error": {"message": data["detail"]}}
        if not isinstance(data, dict) or not isinstance(data.get("error"), dict):
            return body
        _complete(data["error"], status)
        return json.dumps(data).encode()

    return reshape


def code_of(status: int, body: bytes = b"") -> str:
    """The stable code of an error answer, by its status where the body has none."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        code = None
    return code if isinstance(code, str) else _CODES.get(status, OTHER_CODE)


def complete_event(event: dict[str, Any]) -> None:
    """The same for an error that comes inside a stream, whose status is long sent."""
    error = event.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        _complete(error, code if isinstance(code, int) else 500)


def _complete(error: dict[str, Any], status: int) -> None:
    param = error.get("param")
    error["param"] = param = param.removeprefix("body.") if isinstance(param, str) else None
    if not isinstance(error.get("code"), str):
        code = _CODES.get(status, f"http_{status}")
        error["code"] = _CODES_BY_PARAM.get((status, param), code)
        error["type"] = _type(status)
