"""The client for asyncio: `client.py` with its waiting awaited, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self, Unpack

import httpx

from .events import Event, StreamDecoder
from .failure import transport_reported
from .request import MODELS, Call, ChatOptions, Prompt
from .shared import DEFAULT_URL, ClientOptions, Shared
from .wire import Completion, ModelCard, ModelList, WireT, read_wire


class AsyncChatStream:
    """The events of one streamed answer; the request is sent when the first is asked for.

    Leaving the `async with` block, `close`, or cancelling the task that reads it closes the
    connection, and the server stops working.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the answer here."""
        await self._events.aclose()


class AsyncClient:
    """`Client`, with `await` before each answer and `async` before each loop and block.

    Args:
        transport, sleep: for tests, and `sleep` for event loops other than asyncio's.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._shared = Shared(base_url, options)
        self._sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **self._shared.http_options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self) -> tuple[ModelCard, ...]:
        """The models that the server serves, with the reasoning modes of each."""
        return (await self._whole(MODELS, ModelList)).data

    async def chat(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> Completion:
        """Ask, and wait for the whole answer."""
        return await self._whole(self._shared.chat(prompt, options, streams=False), Completion)

    def stream(self, prompt: Prompt, **options: Unpack[ChatOptions]) -> AsyncChatStream:
        """Ask, and get the answer as events, `Done` the last of them."""
        return AsyncChatStream(self._events(self._shared.chat(prompt, options, streams=True)))

    async def _whole(self, call: Call, kind: type[WireT]) -> WireT:
        async with self._answer(call) as response:
            return read_wire(kind, await response.aread())

    async def _events(self, call: Call) -> AsyncGenerator[Event, None]:
        decoder = StreamDecoder()
        async with self._answer(call) as response:
            async for part in response.aiter_bytes():
                for event in decoder.feed(part):
                    yield event
        decoder.close()

    @asynccontextmanager
    async def _answer(self, call: Call) -> AsyncIterator[httpx.Response]:
        attempts = self._shared.attempts()
        while True:
            with transport_reported():
                async with self._http.stream(call.method, call.path, json=call.body) as response:
                    delay_s = attempts.delay_s(response)
                    if delay_s is None:
                        if not response.is_success:
                            await response.aread()
                        attempts.check(response)
                        yield response
                        return
            await self._sleep(delay_s)
