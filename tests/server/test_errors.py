"""Errors in one shape, wherever they come from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sottovoce_router import InvalidValueError, UnknownKeyError, UnsupportedModeError
from sottovoce_server import errors

OURS = [
    (errors.invalid_json("r"), 400, "invalid_json", ("r", "send one")),
    (errors.not_finite({"NaN", "Infinity"}), 400, "invalid_json", ("Infinity and NaN", "finite")),
    (errors.wrong_route("k", "/p", ["/r"]), 400, "unknown_parameter", ("k", "/p", "['/r']")),
    (errors.bad_api_key(), 401, "invalid_api_key", ("Authorization: Bearer",)),
    (errors.body_too_large(9), 413, "body_too_large", ("9", "--max-body-bytes")),
    (errors.queue_full(9), 429, "queue_full", ("9", "--max-queue")),
    (errors.draining(), 503, "draining", ("retry",)),
]
ROUTING = [
    (InvalidValueError("routing.top_n", 99, "must be small"), "invalid_value"),
    (UnknownKeyError("routing.x", ["y"]), "unknown_parameter"),
    (UnsupportedModeError("latent", "needs markers"), "unsupported_reasoning_mode"),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "words"), OURS, ids=lambda part: str(part)[:20]
)
def test_our_errors(error: errors.ApiError, status: int, code: str, words: tuple[str, ...]) -> None:
    assert error.status == status
    body = json.loads(error.body())["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["code"] == code
    assert [word for word in words if word not in body["message"]] == []


def test_types() -> None:
    types = {error.status: json.loads(error.body())["error"]["type"] for error, *_ in OURS}
    assert types == {
        400: "invalid_request_error", 401: "authentication_error", 413: "invalid_request_error",
        429: "rate_limit_error", 503: "service_unavailable_error",
    }  # fmt: skip


def test_retries_are_announced() -> None:
    assert errors.queue_full(9).headers["Retry-After"]
    assert errors.draining().headers["Retry-After"]


@pytest.mark.parametrize(("refusal", "code"), ROUTING, ids=lambda part: str(part)[:20])
def test_routing_errors(refusal: Any, code: str) -> None:
    error = errors.from_routing_error(refusal)
    assert (error.status, error.code, error.param) == (400, code, refusal.param)
    assert refusal.param in error.message


def reshaped(status: int, body: Any) -> Any:
    return json.loads(errors.in_shape(status)(json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", "invalid_request_error"),
        (404, "not_found", "not_found_error"),
        (405, "method_not_allowed", "invalid_request_error"),
        (418, "http_418", "invalid_request_error"),
        (422, "invalid_request", "invalid_request_error"),
        (500, "internal_error", "server_error"),
        (501, "not_implemented", "server_error"),
        (503, "unavailable", "service_unavailable_error"),
        (599, "http_599", "server_error"),
    ],
)
def test_vllms_errors(status: int, code: str, kind: str) -> None:
    vllms = {"error": {"message": "m", "type": "Whatever", "param": None, "code": status}}
    expected = {"message": "m", "type": kind, "param": None, "code": code}
    assert reshaped(status, vllms) == {"error": expected}
    assert reshaped(status, {"detail": "m"}) == {"error": expected}


def test_parameters() -> None:
    inner = {"error": {"message": "m", "code": 400, "param": "body.messages.0.role"}}
    assert reshaped(400, inner)["error"]["param"] == "messages.0.role"
    tokens = {"error": {"message": "m", "code": 400, "param": "input_tokens"}}
    assert reshaped(400, tokens)["error"]["code"] == "context_length_exceeded"
    model = {"error": {"message": "m", "code": 404, "param": "model"}}
    assert reshaped(404, model)["error"]["code"] == "model_not_found"


def test_shape_of_the_messages_api_is_kept() -> None:
    body = reshaped(404, {"type": "error", "error": {"type": "NotFoundError", "message": "m"}})
    assert body == {
        "type": "error",
        "error": {"message": "m", "type": "not_found_error", "param": None, "code": "not_found"},
    }


def test_code_that_is_stable_already() -> None:
    body = {"error": {"message": "m", "type": "t", "param": "p", "code": "mine"}}
    assert reshaped(400, body) == body


@pytest.mark.parametrize(
    "body",
    [b"", b"oops", b"null", b"[1]", b'{"error": "Unauthorized"}', b'{"detail": [1]}', b"\xff"],
)
def test_other_bodies_are_left_alone(body: bytes) -> None:
    assert errors.in_shape(500)(body) == body


def test_every_code_is_listed() -> None:
    """Metrics count by them."""
    codes = {error.code for error, *_ in OURS} | {code for _, code in ROUTING}
    assert codes <= errors.CODES
    for status in (400, 401, 404, 405, 413, 422, 429, 500, 501, 503):
        assert errors.code_of(status) in errors.CODES
    assert errors.OTHER_CODE not in errors.CODES


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"error": {"code": "mine"}}', "mine"),
        (400, b'{"error": {"code": 400}}', "invalid_request"),
        (404, b"<html>", "not_found"),
        (404, b'{"error": "no"}', "not_found"),
        (404, b"[]", "not_found"),
        (418, b"", "other"),
    ],
)
def test_code_of_an_answer(status: int, body: bytes, code: str) -> None:
    assert errors.code_of(status, body) == code


def test_event_without_an_error_is_left_alone() -> None:
    event: dict[str, Any] = {"error": None, "choices": []}
    errors.complete_event(event)
    assert event == {"error": None, "choices": []}
