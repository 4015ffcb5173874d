"""A streamed answer on a terminal: whole lines scroll by, the last one and the counters stay live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from .events import AnswerText, Done, Event, ReasoningText, ThinkingStep
from .thoughts import Painter, printable


@dataclass
class Counters:
    """What an answer has cost so far."""

    steps: int = 0
    soft: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        share = self.soft / self.steps if self.steps else 0.0
        return f"{self.steps} reasoning steps, {share:.0%} soft, {self.seconds:.1f} s"


class Reply:
    """One answer as it grows."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._started_s = clock()
        self._painter = Painter()
        self._counters = Counters()
        self._line = Text()  # replaced, never changed: the display reads it from another thread
        self._has_thought = False
        self._answer = ""

    @property
    def answer(self) -> str:
        """What was said, without the thoughts."""
        return self._answer

    def take(self, event: Event) -> None:
        """Take in an event, and print the lines that it completes."""
        if isinstance(event, ThinkingStep):
            self._painter.note(event.step)
            self._counters.steps += 1
            self._counters.soft += event.step.route == "soft"
        elif isinstance(event, ReasoningText):
            self._has_thought = True
            for text, style in self._painter.paint(printable(event.text)):
                self._write(text, style)
        elif isinstance(event, AnswerText):
            self._say(event.text)
        elif isinstance(event, Done):
            self._settle(event)

    def _say(self, text: str) -> None:
        if not self._answer:
            text = text.lstrip()  # models leave blank lines between thoughts and answer
            if text and self._has_thought:
                self.end_line()
                self._console.print()
        self._answer += text
        self._write(printable(text), "")

    def _settle(self, done: Done) -> None:
        details = done.usage.details
        # Without a trace, as of a server that is not ours, the usage is all that there is.
        self._counters.steps = self._counters.steps or details.reasoning_tokens
        self._counters.soft = self._counters.soft or details.soft_steps

    def _write(self, text: str, style: str) -> None:
        grown = self._line.copy().append(text, style)
        *whole, last = grown.wrap(self._console, self._console.width, overflow="fold") or [Text()]
        self._line = last
        for line in whole:
            self._console.print(line)

    def end_line(self) -> None:
        """Print what is left of the last line."""
        line, self._line = self._line, Text()
        if line:
            self._console.print(line)

    def __rich__(self) -> Group:
        """The part that is live, as it is whenever the display draws it."""
        return Group(self._line, self.counters())

    def counters(self) -> Text:
        """The counters at this moment."""
        self._counters.seconds = self._clock() - self._started_s
        return Text(str(self._counters), style="dim")


def show(events: Iterable[Event], console: Console, clock: Callable[[], float]) -> str:
    """Print an answer as it comes, and return it without the thoughts; `clock` in seconds.

    Raises:
        SottovoceError: what reading the events raises; what came before it stays on the terminal.
    """
    reply = Reply(console, clock)
    try:
        with Live(reply, console=console, transient=True):
            for event in events:
                reply.take(event)
    finally:
        reply.end_line()
    console.print(reply.counters())
    return reply.answer
