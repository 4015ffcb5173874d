"""Events from bytes: endings, comments, and cuts at every place."""

from __future__ import annotations

import pytest

from sottovoce_client.sse import EventParser

TEXT = (
    ": hello\ndata: {}\n\nevent: x\nid: 7\ndata:a\ndata:  b: c\n\n\ndata: é🙂\n\ndata\n\ndata: cut"
)
EVENTS = ["{}", "a\n b: c", "é🙂"]


def parsed(*parts: bytes) -> list[str]:
    parser = EventParser()
    return [event for part in parts for event in parser.feed(part)]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_cut(ending: str) -> None:
    whole = TEXT.replace("\n", ending).encode()
    expected = [*EVENTS, ""]
    assert parsed(whole) == expected
    for at in range(len(whole)):
        assert parsed(whole[:at], whole[at:]) == expected, at
    assert parsed(*(bytes([byte]) for byte in whole)) == expected


def test_an_event_comes_with_its_last_byte() -> None:
    parser = EventParser()
    assert list(parser.feed(b"data: 1\n")) == []
    assert list(parser.feed(b"\n")) == ["1"]


def test_bytes_that_are_no_text() -> None:
    assert parsed(b"data: \xff\n\n") == ["\ufffd"]
