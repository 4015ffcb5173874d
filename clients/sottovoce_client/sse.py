"""Server-sent events from bytes that may be cut anywhere, as the WHATWG's HTML standard has them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator


class EventParser:
    """Bytes in, the `data` of whole events out; other fields are not part of OpenAI's protocol."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, part: bytes) -> Iterator[str]:
        """The events that this part completes."""
        *lines, self._rest = self._split(self._rest + self._decoder.decode(part))
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                yield "\n".join(self._data)
                self._data = []

    @staticmethod
    def _split(text: str) -> list[str]:
        # A CR at the end may be half of a CR LF: it waits for what follows.
        held = "\r" if text.endswith("\r") else ""
        lines = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return [*lines[:-1], lines[-1] + held]

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
