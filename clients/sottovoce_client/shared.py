"""What the two clients have in common: everything but the waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import httpx

from .failure import error_of_response
from .request import Call, Prompt, chat_call
from .retry import Retries, parse_retry_after

DEFAULT_URL = "http://localhost:8000"
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 600.0  # a whole answer may be thought about for minutes before its first byte


class ClientOptions(TypedDict, total=False):
    """How a client talks to its server; the last two are for tests."""

    api_key: str | None
    model: str | None  # of requests that name none; where none is named at all, the server's own
    timeout: float | httpx.Timeout  # seconds without a byte: 5 to connect, 600 to answer
    retries: Retries
    clock: Callable[[], float]  # seconds since 1970, for a Retry-After that is a date
    rng: random.Random  # jitter


class Shared:
    """A client's settings, and its decisions."""

    def __init__(self, base_url: str, options: ClientOptions) -> None:
        key = options.get("api_key")
        timeout = httpx.Timeout(_ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        self.http_options: dict[str, Any] = {
            # Both are in use: OpenAI's clients are given the address with /v1.
            "base_url": base_url.rstrip("/").removesuffix("/v1"),
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": options.get("timeout", timeout),
        }
        self.retries = options.get("retries", Retries())
        self.clock = options.get("clock", time.time)
        self.rng = options.get("rng") or random.Random()
        self._model = options.get("model")

    def chat(self, prompt: Prompt, options: Mapping[str, Any], *, streams: bool) -> Call:
        """The request of a chat completion."""
        return chat_call(prompt, {"model": self._model, **options}, streams=streams)

    def attempts(self) -> Attempts:
        """The attempts of one request."""
        return Attempts(self)


class Attempts:
    """Decides, answer by answer, what becomes of one request."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._num_retried = 0

    def delay_s(self, response: httpx.Response) -> float | None:
        """Seconds to wait before asking again; None where this answer stands."""
        after_s = parse_retry_after(response.headers.get("retry-after"), self._shared.clock())
        delay_s = self._shared.retries.delay_s(
            response.status_code, self._num_retried, after_s, self._shared.rng
        )
        self._num_retried += 1
        return delay_s

    def check(self, response: httpx.Response) -> None:
        """Accept a response that is an answer; one that is not has been read.

        Raises:
            StatusError: the server put into words what went wrong.
        """
        if not response.is_success:
            raise error_of_response(response, self._shared.clock())
