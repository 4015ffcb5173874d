"""The client for ordinary code; `async_client.py` is the same for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Self, Unpack

import httpx

from .events import Event, StreamDecoder
from .failure import transport_reported
from .request import MODELS, Call, ChatOptions, Prompt
from .shared import DEFAULT_URL, ClientOptions, Shared
from .wire import Completion, ModelCard, ModelList, WireT, read_wire


class ChatStream:
    """The events of one streamed answer; the request is sent when the first is asked for.

    Leaving the `with` block, or `close`, closes the connection, and the server stops working.
    """

    def __init__(self, events: Generator[Event, None, None]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the answer here."""
        self._events.close()


class Client:
    """A connection pool to one server; usable as a context manager, which closes it.

    Every call raises `StatusError` for an error of the server's, `TransportError` where there is no
    answer, `ProtocolError` where it is none that the API promises.

    Args:
        base_url: the server's address, with or without `/v1`.
        transport, sleep: for tests; `sleep` takes seconds.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._shared = Shared(base_url, options)
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **self._shared.http_options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> tuple[ModelCard, ...]:
        """The models that the server serves, with the reasoning modes of each."""
        return self._whole(MODELS, ModelList).data

    def chat(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> Completion:
        """Ask, and wait for the whole answer."""
        return self._whole(self._shared.chat(prompt, options, streams=False), Completion)

    def stream(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> ChatStream:
        """Ask, and get the answer as events, `Done` the last of them.

        A refusal (429, 503) is retried; what fails once the answer has begun is not.
        """
        return ChatStream(self._events(self._shared.chat(prompt, options, streams=True)))

    def _whole(self, call: Call, kind: type[WireT]) -> WireT:
        with self._answer(call) as response:
            return read_wire(kind, response.read())

    def _events(self, call: Call) -> Generator[Event, None, None]:
        decoder = StreamDecoder()
        with self._answer(call) as response:
            for part in response.iter_bytes():
                yield from decoder.feed(part)
        decoder.close()

    @contextmanager
    def _answer(self, call: Call) -> Iterator[httpx.Response]:
        attempts = self._shared.attempts()
        while True:
            with (
                transport_reported(),
                self._http.stream(call.method, call.path, json=call.body) as response,
            ):
                delay_s = attempts.delay_s(response)
                if delay_s is None:
                    if not response.is_success:
                        response.read()
                    attempts.check(response)
                    yield response
                    return
            self._sleep(delay_s)
