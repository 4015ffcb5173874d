"""The text of thoughts, cut at the steps that wrote it."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterator

from .wire import TraceStep

LATENT = "latent"  # the route of steps that write no text
STYLES = {"soft": "dim italic", "discrete": "cyan", "forced": "yellow", LATENT: "magenta"}
UNTRACED = "cyan"


def printable(text: str) -> str:
    """Text that cannot steer the terminal: a model may write any character."""
    return "".join(c if c in "\n\t" or not _is_unprintable(c) else "\ufffd" for c in text)


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


class Painter:
    """Gives each piece of text the style of its step.

    Steps and text do not always fit: a token alone may lose a leading space, or be half a character.
    Text that fits no step has the style of the newest one, and nothing is lost.
    """

    def __init__(self) -> None:
        self._steps: deque[TraceStep] = deque()
        self._style = UNTRACED

    def note(self, step: TraceStep) -> None:
        """A step, before the text that it wrote."""
        if step.route != LATENT:
            self._steps.append(step)

    def paint(self, text: str) -> Iterator[tuple[str, str]]:
        """Pieces of the text, each with its style."""
        while text and self._steps and (end := _end_of(self._steps[0].token, text)):
            self._style = _style_of(self._steps.popleft())
            yield text[:end], self._style
            text = text[end:]
        if text:
            while self._steps:
                self._style = _style_of(self._steps.popleft())
            yield text, self._style


def _style_of(step: TraceStep) -> str:
    return STYLES.get(step.route, UNTRACED)


def _end_of(token: str, text: str) -> int:
    """Where the token ends that the text begins with, white space aside; 0 if it does not."""
    at = text.find(token) if token else -1
    return at + len(token) if at >= 0 and not text[:at].strip() else 0
