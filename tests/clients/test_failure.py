"""From status and code to the class of an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import sottovoce_client.errors as tree
from clients.scripted import refusal
from sottovoce_client.errors import StatusError
from sottovoce_client.failure import error_of_response

README = Path(__file__).parents[2] / "server" / "README.md"
CLASSES = {
    "invalid_value": "BadRequestError",
    "unknown_parameter": "BadRequestError",
    "unsupported_reasoning_mode": "UnsupportedModeError",
    "context_length_exceeded": "ContextLengthError",
    "invalid_json": "BadRequestError",
    "invalid_request": "BadRequestError",
    "invalid_api_key": "AuthenticationError",
    "model_not_found": "ModelNotFoundError",
    "not_found": "NotFoundError",
    "method_not_allowed": "StatusError",
    "body_too_large": "BodyTooLargeError",
    "queue_full": "RateLimitedError",
    "internal_error": "ServerError",
    "not_implemented": "ServerError",
    "draining": "UnavailableError",
    "unavailable": "UnavailableError",
}
STRANGE = [
    (400, "new_code", "BadRequestError"),
    (422, None, "BadRequestError"),
    (418, None, "StatusError"),
    (500, None, "ServerError"),
    (502, "new_code", "ServerError"),
    (503, None, "UnavailableError"),
]


def documented() -> list[tuple[int, str, str]]:
    """The table of the server's README, with the class that each row must have here."""
    _, _, table = README.read_text().partition("| status | code |")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    pairs = [(int(status), code) for status, codes in rows for code in re.findall("`(.+?)`", codes)]
    return [(status, code, CLASSES[code]) for status, code in pairs]


@pytest.mark.parametrize(("status", "code", "kind"), [*documented(), *STRANGE])
def test_class(status: int, code: str | None, kind: str) -> None:
    error = error_of_response(refusal(status, code), 0)
    assert type(error) is getattr(tree, kind)
    assert (error.status, error.code, str(error)) == (status, code, f"no: {status}")


def test_every_code_is_documented() -> None:
    assert {code for _, code, _ in documented()} == set(CLASSES)


@pytest.mark.parametrize(("status", "code", "kind"), documented())
def test_status_and_code_agree(status: int, code: str, kind: str) -> None:
    """A code that this client did not know would end in the same branch of the tree."""
    by_status = type(error_of_response(refusal(status, "unheard_of"), 0))
    assert issubclass(getattr(tree, kind), by_status)
    assert (by_status is StatusError) == (kind == "StatusError")


def test_every_class_is_drawn() -> None:
    assert tree.__doc__ is not None
    classes = {n for n, v in vars(tree).items() if isinstance(v, type)}
    assert {name for name in classes if name not in tree.__doc__} == set()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Bad Gateway</html>", "HTTP 502: <html>Bad Gateway</html>"),
        (b"", "HTTP 502: "),
        (b"[]", "HTTP 502: []"),
        (b'{"detail": "no"}', 'HTTP 502: {"detail": "no"}'),
        (b'{"error": "no"}', 'HTTP 502: {"error": "no"}'),
        (b'{"error": {"message": ["no"]}}', 'HTTP 502: {"error"'),
        (b"x" * 999, "HTTP 502: " + "x" * 200),
    ],
)
def test_bodies_of_others(body: bytes, words: str) -> None:
    error: Any = error_of_response(httpx.Response(502, content=body), 0)
    assert isinstance(error, StatusError)
    assert str(error).startswith(words)
    assert len(str(error)) < 250
