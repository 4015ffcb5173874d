"""How a request ended, told by what passed between its client and vLLM's app."""

from __future__ import annotations

import asyncio

from .render import Renderer
from .reply import Message, Receive, Reply


class Caller:
    """Stands in for `receive`: notes a client that hangs up before its answer is whole."""

    def __init__(self, receive: Receive, reply: Reply) -> None:
        self._receive, self._reply = receive, reply
        self.is_gone = False

    async def __call__(self) -> Message:
        """The client's next message."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._reply.is_complete:
            self.is_gone = True
        return message


def outcome_of(
    caller: Caller, reply: Reply, renderer: Renderer, error: BaseException | None
) -> str:
    """One of `metrics.OUTCOMES`.

    Args:
        error: what the app raised.
    """
    if caller.is_gone or isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if error is not None or reply.status >= 500 or renderer.has_failed:
        return "failed"
    if reply.status >= 400:
        return "refused"
    # vLLM stops a stream whose client has gone without a word.
    return "ok" if reply.is_complete else "cancelled"
