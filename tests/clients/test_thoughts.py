"""Text cut at its steps."""

from __future__ import annotations

import pytest

from clients.scripted import step
from sottovoce_client import TraceStep
from sottovoce_client.thoughts import STYLES, UNTRACED, Painter, printable

SOFT, DISCRETE = STYLES["soft"], STYLES["discrete"]


def painted(*parts: tuple[str, str] | str) -> list[tuple[str, str]]:
    """Steps are pairs of token and route, text is text."""
    painter, pieces = Painter(), []
    for part in parts:
        if isinstance(part, str):
            pieces += painter.paint(part)
        else:
            painter.note(TraceStep.model_validate(step(*part)))
    return pieces


def test_each_piece_has_the_style_of_its_step() -> None:
    assert painted(("Hm", "soft"), "Hm", (" so", "discrete"), " so") == [
        ("Hm", SOFT),
        (" so", DISCRETE),
    ]
    assert painted(("Hm", "soft"), (" so", "discrete"), "Hm so") == [
        ("Hm", SOFT),
        (" so", DISCRETE),
    ]


def test_a_latent_step_writes_nothing() -> None:
    steps = (("<pad>", "latent"), ("Hm", "soft"), (" so", "discrete"))
    assert painted(*steps, "Hm", " so") == [("Hm", SOFT), (" so", DISCRETE)]


def test_a_token_that_lost_its_space() -> None:
    assert painted(("a", "soft"), ("b", "discrete"), "a b") == [("a", SOFT), (" b", DISCRETE)]


def test_half_characters() -> None:
    """The server holds their text back until it is whole."""
    parts = [("\ufffd", "soft"), ("\ufffd", "discrete"), "é", ("x", "soft"), "x"]
    assert painted(*parts) == [("é", DISCRETE), ("x", SOFT)]


def test_text_without_steps() -> None:
    assert painted("Hm") == [("Hm", UNTRACED)]
    assert painted(("a", "soft"), "a", " and more") == [("a", SOFT), (" and more", SOFT)]


def test_steps_without_text() -> None:
    assert painted(("", "soft"), ("</think>", "forced"), "") == []


def test_a_word_found_later_is_not_the_step() -> None:
    assert painted(("b", "soft"), ("c", "discrete"), "a b") == [("a b", DISCRETE)]


@pytest.mark.parametrize("route", ["soft", "discrete", "forced", "new"])
def test_every_route_has_a_style(route: str) -> None:
    ((text, style),) = painted(("a", route), "a")
    assert (text, style) == ("a", STYLES.get(route, UNTRACED))


def test_nothing_steers_the_terminal() -> None:
    assert (
        printable("a\x1b[31mé\u00a0\tb\r\n\x9b\ud83d🙂")
        == "a\ufffd[31mé\u00a0\tb\ufffd\n\ufffd\ufffd🙂"
    )
