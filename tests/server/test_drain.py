"""The count of requests in flight, and the wait for them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from server.serving import wait_for
from sottovoce_server.drain import Drain
from sottovoce_server.errors import ApiError


def test_limit() -> None:
    drain = Drain(timeout_s=1)
    with ExitStack() as stack:
        stack.enter_context(drain.admit(2))
        stack.enter_context(drain.admit(2))
        with pytest.raises(ApiError) as raised, drain.admit(2):
            pass
        assert (raised.value.status, raised.value.code) == (429, "queue_full")
        stack.enter_context(drain.admit(0))  # no limit
    with drain.admit(1):
        pass


def test_place_is_given_back_after_an_exception() -> None:
    drain = Drain(timeout_s=1)
    with pytest.raises(KeyError), drain.admit(1):
        raise KeyError
    with drain.admit(1):
        pass


def engine(calls: list[Any]) -> Any:
    """The state of an app whose engine notes when it is shut down."""
    client = SimpleNamespace(shutdown=lambda timeout=None: calls.append(timeout))
    return SimpleNamespace(engine_client=client)


def test_shutdown_waits() -> None:
    calls: list[Any] = []
    state = engine(calls)
    drain = Drain.of(state, timeout_s=30)
    with drain.admit(0):
        thread = threading.Thread(target=state.engine_client.shutdown, kwargs={"timeout": 7})
        thread.start()
        assert wait_for(lambda: drain.is_draining, 5)
        with pytest.raises(ApiError) as raised, drain.admit(0):
            pass
        assert (raised.value.status, raised.value.code) == (503, "draining")
        assert calls == []
    thread.join(5)
    assert calls == [0]


def test_shutdown_of_an_idle_engine_is_immediate() -> None:
    calls: list[Any] = []
    state = engine(calls)
    Drain.of(state, timeout_s=30)
    started = time.monotonic()
    state.engine_client.shutdown()
    state.engine_client.shutdown(timeout=3)
    assert calls == [0, 0]
    assert time.monotonic() - started < 1


def test_one_deadline_for_both_shutdowns() -> None:
    calls: list[Any] = []
    state = engine(calls)
    drain = Drain.of(state, timeout_s=0.5)
    started = time.monotonic()
    with drain.admit(0):
        state.engine_client.shutdown(timeout=100)
        expired = time.monotonic()
        state.engine_client.shutdown(timeout=100)
    assert expired - started >= 0.5
    assert time.monotonic() - expired < 0.4
    assert calls == [0, 0]
