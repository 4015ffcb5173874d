"""What can go wrong, as a tree, and the two tables that put an answer of the server into it.

SottovoceError
├── TransportError            no answer: refused, cut off, not sent
│   └── AnswerTimeoutError    not in time
├── ProtocolError             an answer that is not what the API promises
│   └── StreamCutError        a stream that ends before its end
└── StatusError               an error that the server put into words
    ├── BadRequestError       400, 422
    │   ├── UnsupportedModeError, ContextLengthError
    ├── AuthenticationError   401
    ├── NotFoundError         404
    │   └── ModelNotFoundError
    ├── BodyTooLargeError     413
    ├── RateLimitedError      429
    └── ServerError           500 and above
        └── UnavailableError  503
"""

from __future__ import annotations


class SottovoceError(Exception):
    """Anything that this package raises on purpose."""


class TransportError(SottovoceError):
    """No answer: the server cannot be reached, or the connection was lost."""


class AnswerTimeoutError(TransportError):
    """The server did not connect, send or answer in the time given."""


class ProtocolError(SottovoceError):
    """The answer is not what the API promises."""


class StreamCutError(ProtocolError):
    """A stream ended without `[DONE]`: what came is not the whole answer."""


class StatusError(SottovoceError):
    """An error that the server put into words.

    `status` is None where it came inside a stream; `code` is the stable name to branch on;
    `param` the key at fault; `retry_after_s` what Retry-After asked for, in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class BadRequestError(StatusError):
    """The request is wrong; sending it again will not help."""


class UnsupportedModeError(BadRequestError):
    """The server's model or configuration does not serve the reasoning mode."""


class ContextLengthError(BadRequestError):
    """Prompt and answer do not fit the model's context."""


class AuthenticationError(StatusError):
    """A missing or wrong API key."""


class NotFoundError(StatusError):
    """Nothing is there by this name."""


class ModelNotFoundError(NotFoundError):
    """The server does not serve this model."""


class BodyTooLargeError(StatusError):
    """The body is over the server's limit."""


class RateLimitedError(StatusError):
    """Too many requests are in flight."""


class ServerError(StatusError):
    """The server failed."""


class UnavailableError(ServerError):
    """The server is starting, draining or down."""


_BY_CODE: dict[str, type[StatusError]] = {
    "invalid_value": BadRequestError,
    "unknown_parameter": BadRequestError,
    "invalid_json": BadRequestError,
    "invalid_request": BadRequestError,
    "unsupported_reasoning_mode": UnsupportedModeError,
    "context_length_exceeded": ContextLengthError,
    "invalid_api_key": AuthenticationError,
    "not_found": NotFoundError,
    "model_not_found": ModelNotFoundError,
    "body_too_large": BodyTooLargeError,
    "queue_full": RateLimitedError,
    "draining": UnavailableError,
    "unavailable": UnavailableError,
    "internal_error": ServerError,
}
# For codes that this client does not know, and for answers of whatever stands in front.
_BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    404: NotFoundError,
    413: BodyTooLargeError,
    422: BadRequestError,
    429: RateLimitedError,
    503: UnavailableError,
}


def class_of_error(status: int | None, code: str | None) -> type[StatusError]:
    """The class of an error: by its code, else by its status."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status is None:
        return StatusError
    return _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
