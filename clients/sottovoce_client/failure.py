"""From what came back instead of an answer to the error it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from .errors import AnswerTimeoutError, StatusError, TransportError, class_of_error
from .retry import parse_retry_after
from .wire import ErrorDetail

_SHOWN = 200  # characters of a body that is no error body, such as a proxy's page


def error_of_response(response: httpx.Response, now: float) -> StatusError:
    """The error that a response, already read, reports; `now` in seconds since 1970."""
    status = response.status_code
    return _error(
        _detail(_parsed(response.text))
        or ErrorDetail(message=f"HTTP {status}: {response.text.strip()[:_SHOWN]}"),
        status=status,
        request_id=response.headers.get("x-request-id"),
        retry_after_s=parse_retry_after(response.headers.get("retry-after"), now),
    )


def error_in_stream(data: str) -> StatusError | None:
    """The error that one event of a stream reports, if it does."""
    detail = _detail(_parsed(data)) if '"error"' in data else None
    return _error(detail) if detail else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _detail(body: Any) -> ErrorDetail | None:
    error = body.get("error") if isinstance(body, dict) else None
    try:
        return ErrorDetail.model_validate(error)
    except ValidationError:
        return None


def _error(detail: ErrorDetail, status: int | None = None, **fields: Any) -> StatusError:
    code = detail.code if isinstance(detail.code, str) else None
    kind = class_of_error(status, code)
    return kind(detail.message, status=status, code=code, param=detail.param, **fields)


@contextmanager
def transport_reported() -> Iterator[None]:
    """What httpx raises for want of an answer, as errors of this package.

    Raises:
        TransportError: the server cannot be reached, or the connection was lost.
        AnswerTimeoutError: not in time.
    """
    try:
        yield
    except httpx.TimeoutException as error:
        raise AnswerTimeoutError(f"{_where(error)}: not in time ({_why(error)})") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise TransportError(f"{_where(error)}: {_why(error)}") from error


def _where(error: httpx.RequestError) -> str:
    return f"{error.request.method} {error.request.url}"


def _why(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__
