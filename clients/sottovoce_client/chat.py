"""`sottovoce chat`: a conversation on the terminal, with the thinking shown as it happens."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from .client import Client
from .errors import SottovoceError
from .screen import show
from .settings import SettingError, Settings, add_flags, client_of, settings_of

HELP = """\
/mode explicit|latent|routed|default   how to think
/set NAME VALUE                        a field of routing or of sampling: /set threshold 0.8
/set NAME                              leave it to the server again
/show                                  what is set
/reset                                 forget the conversation
/help                                  this page
/quit                                  end; so does Ctrl-D. Ctrl-C ends an answer"""


@dataclass
class Conversation:
    """Settings, and what was said: questions and answers, never the thoughts."""

    settings: Settings = field(default_factory=Settings)
    system: str = ""
    history: list[dict[str, str]] = field(default_factory=list)

    def messages(self, question: str) -> list[dict[str, str]]:
        """What to send."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return [*opening, *self.history, {"role": "user", "content": question}]

    def keep(self, question: str, answer: str) -> None:
        """Remember a question that was answered."""
        self.history += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]

    def obey(self, line: str) -> str:
        """Carry out a command other than /quit; returns what to print.

        Raises:
            SettingError: no such command, name or value.
        """
        command, *words = line.split(maxsplit=2)
        if command == "/mode" and len(words) == 1:
            self.settings.choose_mode(words[0])
        elif command == "/set" and words:
            self.settings.assign(words[0], words[1] if len(words) > 1 else "")
        elif command == "/reset":
            self.history.clear()
            return "forgotten"
        elif command == "/help":
            return HELP
        elif command != "/show":
            raise SettingError(f"{line!r} is no command; they are\n{HELP}")
        return str(self.settings)


@dataclass(frozen=True)
class Terminal:
    """Where the conversation takes place; `read` gives a line or raises EOFError."""

    console: Console
    read: Callable[[], str]
    clock: Callable[[], float] = time.monotonic  # seconds

    def complain(self, problem: object) -> None:
        """Say what went wrong."""
        self.console.print(Text(str(problem), style="red"))


def converse(client: Client, conversation: Conversation, terminal: Terminal) -> None:
    """Until the user ends it."""
    while True:
        try:
            line = terminal.read().strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                terminal.console.print(Text(conversation.obey(line), style="dim"))
            elif line:
                _answer(client, conversation, terminal, line)
        except (SettingError, SottovoceError) as error:
            terminal.complain(error)
        except KeyboardInterrupt:
            terminal.complain("stopped; this question is not remembered")


def _answer(client: Client, conversation: Conversation, terminal: Terminal, question: str) -> None:
    options = conversation.settings.options()
    with client.stream(conversation.messages(question), **options) as events:
        answer = show(events, terminal.console, terminal.clock)
    conversation.keep(question, answer)


def _greet(client: Client, console: Console) -> None:
    for card in client.models():
        modes = ", ".join(card.reasoning_modes) or "unknown"
        console.print(Text(f"{card.id} (modes: {modes}); /help lists the commands", style="dim"))


def main(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the program; it exits with a message where the server cannot be used."""
    parser = argparse.ArgumentParser(prog="sottovoce chat", description=__doc__)
    add_flags(parser)
    parser.add_argument("--system", default="", help="a system prompt")
    args = parser.parse_args(argv)
    console = Console(highlight=False)
    terminal = Terminal(console, lambda: console.input("[bold]> [/bold]"))
    try:
        with client_of(args, environment) as client:
            conversation = Conversation(settings_of(args), args.system)
            _greet(client, console)
            converse(client, conversation, terminal)
    except (SettingError, SottovoceError) as error:
        sys.exit(f"sottovoce chat: {error}")
