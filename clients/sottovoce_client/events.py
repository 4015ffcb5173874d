"""What a streamed answer is made of, and the decoder that makes it from the response's bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .errors import StreamCutError
from .failure import error_in_stream
from .sse import EventParser
from .wire import Chunk, ChunkChoice, RoutingSummary, TraceStep, Usage, read_wire

_END = "[DONE]"


@dataclass(frozen=True)
class ReasoningText:
    """More of the thoughts."""

    text: str
    choice: int = 0


@dataclass(frozen=True)
class AnswerText:
    """More of the answer."""

    text: str
    choice: int = 0


@dataclass(frozen=True)
class ThinkingStep:
    """A step of the trace; it comes before the text that it wrote."""

    step: TraceStep
    choice: int = 0


@dataclass(frozen=True)
class ToolCallPart:
    """More of a tool call: `name` and `id` come first, `arguments` in pieces."""

    index: int
    id: str | None
    name: str | None
    arguments: str
    choice: int = 0


@dataclass(frozen=True)
class Done:
    """The last event; `finish_reasons` by choice."""

    id: str
    usage: Usage
    routing: RoutingSummary | None
    finish_reasons: Mapping[int, str] = field(default_factory=dict)


Event = ReasoningText | AnswerText | ThinkingStep | ToolCallPart | Done


class StreamDecoder:
    """One response: bytes in, events out, each as soon as it is whole."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._id = ""
        self._usage = Usage()
        self._routing: RoutingSummary | None = None
        self._finish_reasons: dict[int, str] = {}
        self._is_done = False

    def feed(self, part: bytes) -> Iterator[Event]:
        """The events that this part completes.

        Raises:
            StatusError: the server reports an error inside the stream.
            ProtocolError: an event is not what the API promises.
        """
        for data in self._parser.feed(part):
            if data == _END:
                self._is_done = True
                yield Done(self._id, self._usage, self._routing, self._finish_reasons)
            else:
                yield from self._read(data)

    def close(self) -> None:
        """Say that the response has ended.

        Raises:
            StreamCutError: before its last event.
        """
        if not self._is_done:
            raise StreamCutError("the stream ended before its last event; send the request again")

    def _read(self, data: str) -> Iterator[Event]:
        if error := error_in_stream(data):
            raise error
        chunk = read_wire(Chunk, data)
        self._id = chunk.id or self._id
        self._usage = chunk.usage or self._usage
        self._routing = chunk.routing or self._routing
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._finish_reasons[choice.index] = choice.finish_reason
            yield from _events_of(choice)


def _events_of(choice: ChunkChoice) -> Iterator[Event]:
    delta, index = choice.delta, choice.index
    for step in choice.trace:
        yield ThinkingStep(step, index)
    if delta.reasoning:
        yield ReasoningText(delta.reasoning, index)
    if delta.content:
        yield AnswerText(delta.content, index)
    for call in delta.tool_calls or ():
        name, arguments = call.function.get("name"), call.function.get("arguments")
        yield ToolCallPart(call.index, call.id, name, arguments or "", index)
