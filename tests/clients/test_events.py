"""A streamed answer as events, whatever the network does to its bytes."""

from __future__ import annotations

from typing import Any

import pytest

from clients.scripted import CHUNKS, DETAILS, ROUTING, TRACE, chunk, sse
from sottovoce_client import (
    AnswerText,
    Done,
    Event,
    ProtocolError,
    ReasoningText,
    ServerError,
    StatusError,
    StreamCutError,
    ThinkingStep,
    ToolCallPart,
    TraceStep,
)
from sottovoce_client.events import StreamDecoder


def decoded(*parts: bytes) -> list[Event]:
    decoder = StreamDecoder()
    events = [event for part in parts for event in decoder.feed(part)]
    decoder.close()
    return events


def test_events_in_order() -> None:
    first, second = (TraceStep.model_validate(step) for step in TRACE)
    *events, done = decoded(sse(CHUNKS))
    assert events == [
        ThinkingStep(first),
        ReasoningText("Hm"),
        ThinkingStep(second),
        ReasoningText(" é"),
        AnswerText("Näh,"),
        AnswerText(" 42."),
    ]
    assert isinstance(done, Done)
    assert (done.id, done.finish_reasons) == ("chatcmpl-1", {0: "stop"})
    assert done.routing is not None
    assert done.routing.model_dump(include=set(ROUTING)) == ROUTING
    assert (done.usage.completion_tokens, done.usage.details.soft_steps) == (4, 1)
    assert done.usage.details.model_dump(include=set(DETAILS)) == DETAILS


def test_every_cut() -> None:
    whole = sse(CHUNKS)
    expected = decoded(whole)
    for at in range(len(whole)):
        assert decoded(whole[:at], whole[at:]) == expected, at
    assert decoded(*(bytes([byte]) for byte in whole)) == expected


def test_summary_in_the_last_chunk_of_a_stream_without_usage() -> None:
    last = {**chunk({"content": "x"}, finish_reason="length"), "routing": ROUTING}
    *_, done = decoded(sse([last]))
    assert isinstance(done, Done)
    assert done.routing is not None
    assert done.usage.details.reasoning_tokens == 0


def test_choices_are_told_apart() -> None:
    events = decoded(sse([chunk({"content": "a"}), chunk({"content": "b"}, index=1)]))
    assert events[:-1] == [AnswerText("a", 0), AnswerText("b", 1)]


def test_thoughts_of_older_servers() -> None:
    assert decoded(sse([chunk({"reasoning_content": "Hm"})]))[0] == ReasoningText("Hm")


def test_tool_calls() -> None:
    def part(**call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": 0, **call}]})

    first = part(id="c1", type="function", function={"name": "add", "arguments": ""})
    events = decoded(sse([first, part(function={"arguments": '{"a"'})]))
    assert events[:-1] == [
        ToolCallPart(0, "c1", "add", ""),
        ToolCallPart(0, None, None, '{"a"'),
    ]


def test_unknown_fields_are_kept() -> None:
    strange = {**chunk({"content": "x", "mood": 1}, mark=[2]), "extra": {"a": None}}
    details = {"reasoning_tokens": None, "audio_tokens": None, "latents": 3}
    usage = {"completion_tokens": 1, "completion_tokens_details": details}
    last = {"choices": [], "usage": usage, "routing": {**ROUTING, "loops": 2}}
    text, done = decoded(sse([strange, last]))
    assert text == AnswerText("x")
    assert isinstance(done, Done)
    assert done.usage.details.model_extra == {"audio_tokens": None, "latents": 3}
    assert done.routing is not None
    assert done.routing.model_extra == {"loops": 2}


@pytest.mark.parametrize(("code", "kind"), [("internal_error", ServerError), (400, StatusError)])
def test_error_inside_the_stream(code: Any, kind: type[StatusError]) -> None:
    error = {"error": {"message": "out of luck", "code": code, "param": None, "type": "t"}}
    decoder = StreamDecoder()
    events = decoder.feed(sse([CHUNKS[3], error]))
    assert next(events) == AnswerText("Näh,")
    with pytest.raises(StatusError, match="out of luck") as caught:
        next(events)
    assert (type(caught.value), caught.value.status) == (kind, None)


def test_the_word_error_is_no_error() -> None:
    assert decoded(sse([chunk({"content": '{"error": {"message": "x"}}'})]))[0] == AnswerText(
        '{"error": {"message": "x"}}'
    )


@pytest.mark.parametrize("end", ["", "data: [DONE]", "data: [DONE]\n"])
def test_a_cut_stream_is_not_whole(end: str) -> None:
    with pytest.raises(StreamCutError, match="send the request again"):
        decoded(sse(CHUNKS, end))


@pytest.mark.parametrize("data", ["{", "[1]", '{"choices": 3}', "null"])
def test_what_is_no_chunk(data: str) -> None:
    with pytest.raises(ProtocolError, match="Chunk"):
        decoded(f"data: {data}\n\n".encode())
