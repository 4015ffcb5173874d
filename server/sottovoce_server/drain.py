"""Admission of generation requests, and the wait for them when the process is told to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import errors


class Drain:
    """Counts requests in flight; vLLM's engine is shut down only once they are done."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = 0.0
        self._in_flight = 0
        self.is_draining = False

    @classmethod
    def of(cls, state: Any, timeout_s: float) -> Drain:
        """A drain in front of the engine's shutdown, which vLLM calls in a thread at SIGTERM."""
        drain = cls(timeout_s)
        shutdown = state.engine_client.shutdown

        def wait_and_shut_down(timeout: float | None = None) -> Any:
            drain.wait()
            # As vLLM's own default: what the engine still does by now, nobody waits for.
            return shutdown(timeout=0)

        state.engine_client.shutdown = wait_and_shut_down
        return drain

    @contextmanager
    def admit(self, limit: int) -> Iterator[None]:
        """Hold a place while a request runs; a limit of 0 is none.

        Raises:
            ApiError: 503 while draining, 429 when `limit` requests are in flight.
        """
        if self.is_draining:
            raise errors.draining()
        if limit and self._in_flight >= limit:
            raise errors.queue_full(limit)
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def wait(self) -> None:
        """Refuse new requests and block until the accepted ones have been answered, or not in time.

        vLLM shuts its engine down twice, the second time on the event loop: one deadline for both.
        """
        if not self.is_draining:
            self.is_draining = True
            self._deadline = time.monotonic() + self._timeout_s
        while self._in_flight and time.monotonic() < self._deadline:
            time.sleep(0.02)
