"""What `sottovoce chat` and `sottovoce explain` are told to send, by flags or by commands."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .client import Client
from .request import ChatOptions
from .shared import DEFAULT_URL
from .wire import Routing

MODES = ("explicit", "latent", "routed")
_OURS = frozenset({"model", "mode", "routing", "trace", "extra_body", "stream_options", "n"})
_SAMPLING = frozenset(ChatOptions.__annotations__) - _OURS
_PREFIX = "routing."
_IN_EVERY_MODE = ("min_answer_tokens",)  # of routing


class SettingError(ValueError):
    """A name or a value that cannot be set; the message says what can."""


@dataclass
class Settings:
    """Mode, routing and sampling of the requests to come; what is not set is the server's choice."""

    mode: str | None = None
    routing: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)

    def choose_mode(self, mode: str) -> None:
        """Set the mode; `default` leaves it to the server.

        Raises:
            SettingError: no such mode.
        """
        if mode not in (*MODES, "default"):
            raise SettingError(f"mode {mode!r} is none of {[*MODES, 'default']}")
        self.mode = None if mode == "default" else mode

    def assign(self, name: str, value: str) -> None:
        """Set one field to a value in JSON, or to a word; an empty value unsets it.

        `routing.NAME` is sent even where this client does not know the field.

        Raises:
            SettingError: no such field.
        """
        fields, key = self._place(name)
        if value:
            fields[key] = _parsed(value)
        else:
            fields.pop(key, None)

    def _place(self, name: str) -> tuple[dict[str, Any], str]:
        if name.startswith(_PREFIX) or name in Routing.model_fields:
            return self.routing, name.removeprefix(_PREFIX)
        if name in _SAMPLING:
            return self.sampling, name
        known = ", ".join([*Routing.model_fields, *sorted(_SAMPLING)])
        raise SettingError(f"{name!r} cannot be set; use {_PREFIX}NAME or one of {known}")

    def options(self) -> dict[str, Any]:
        """Options of a request, traced; explicit requests take little of routing."""
        routing = self.routing
        if self.mode == "explicit":
            routing = {k: v for k, v in routing.items() if k in _IN_EVERY_MODE}
        return {**self.sampling, "mode": self.mode, "routing": routing or None, "trace": True}

    def __str__(self) -> str:
        fields = {**self.routing, **self.sampling}
        shown = [f"{key} {json.dumps(value)}" for key, value in fields.items()]
        return ", ".join([f"mode {self.mode or 'default'}", *shown])


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of both programs."""
    parser.add_argument("--url", default=DEFAULT_URL, help="the server, default %(default)s")
    parser.add_argument("--model", help="default: the server's own")
    parser.add_argument("--api-key", help="default: the environment's VLLM_API_KEY")
    parser.add_argument("--mode", default="default", help="explicit, latent or routed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="a field of routing or of sampling, or reasoning_effort: for example threshold=0.8; may "
        "be repeated",
    )  # fmt: skip


def settings_of(args: argparse.Namespace) -> Settings:
    """What the flags say.

    Raises:
        SettingError: no such mode or field.
    """
    settings = Settings()
    settings.choose_mode(args.mode)
    for assignment in args.assignments:
        name, _, value = assignment.partition("=")
        settings.assign(name, value)
    return settings


def client_of(args: argparse.Namespace, environment: Mapping[str, str]) -> Client:
    """A client of the server that the flags name."""
    key = args.api_key or environment.get("VLLM_API_KEY")
    return Client(args.url, api_key=key, model=args.model)
