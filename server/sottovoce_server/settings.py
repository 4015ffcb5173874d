"""The server's own settings, beside vLLM's: one frozen object, read once from the parsed flags."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Any

from .effort import DEFAULT_SHARES, parse_shares
from .savings import CONTROL_MODE

_HELP: dict[str, str] = {
    "default_reasoning_mode": "Mode of requests that do not name one.",
    "control_fraction": "Share, 0 to 1, of the requests without a mode that run as explicit, to measure "
    "what the default mode saves.",
    "max_queue": "Generation requests in flight, of an API server process, before new ones get a 429; 0: no limit.",
    "max_body_bytes": "Largest request body, in bytes; a larger one gets a 413.",
    "drain_timeout_s": "Seconds that a SIGTERM waits for accepted requests to finish.",
    "ledger_gib": "Memory for the soft inputs of live requests, in GiB.",
    "vector_ledger_gib": "Memory for the mixtures of the whole vocabulary (routing.mix full), in GiB.",
    "min_answer_tokens": "Tokens of max_tokens, a quarter of them at most, that thinking leaves for the "
    "answer where a request does not say; 0: none.",
    "effort_shares": "Thinking budget of every reasoning_effort, as a share of max_tokens, or of the "
    "context where a request sets none; empty: efforts set no budget.",
    "reasoning_start": "Marker that opens thinking, for models without a reasoning parser.",
    "reasoning_end": "Marker that closes thinking, for models without a reasoning parser.",
    "routing_defaults": "File of routing defaults, as `sottovoce tune` writes it; without this flag, "
    "sottovoce.json in the model's directory if it is there.",
}


@dataclass(frozen=True)
class ServerSettings:
    """What `sottovoce serve` adds to `vllm serve`."""

    default_reasoning_mode: str = "explicit"
    control_fraction: float = 0.0
    max_queue: int = 1024
    max_body_bytes: int = 16 * 1024 * 1024
    drain_timeout_s: int = 120
    ledger_gib: float = 4.0
    vector_ledger_gib: float = 0.25
    min_answer_tokens: int = 16
    effort_shares: str = DEFAULT_SHARES
    reasoning_start: str = ""
    reasoning_end: str = ""
    routing_defaults: str = ""

    def __post_init__(self) -> None:
        parse_shares(self.effort_shares)
        for name in ("max_queue", "drain_timeout_s", "vector_ledger_gib", "min_answer_tokens"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{_flag(name)} is {getattr(self, name)}; give 0 or more")
        for name in ("max_body_bytes", "ledger_gib"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{_flag(name)} is {getattr(self, name)}; give more than 0")
        self._check_control_fraction()
        if bool(self.reasoning_start) != bool(self.reasoning_end):
            raise ValueError("--reasoning-start and --reasoning-end go together; give both")

    def _check_control_fraction(self) -> None:
        fraction = self.control_fraction
        if not 0 <= fraction <= 1:
            raise ValueError(f"--control-fraction is {fraction}; give a number from 0 to 1")
        if fraction > 0 and self.default_reasoning_mode == CONTROL_MODE:
            raise ValueError(
                f"--control-fraction is {fraction}, but there is nothing to compare while "
                f"--default-reasoning-mode is {CONTROL_MODE}; give latent or routed, or leave out "
                "--control-fraction"
            )

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> ServerSettings:
        """Read the flags; a namespace of plain `vllm serve` gives the defaults."""
        known = {f.name: getattr(args, f.name) for f in fields(cls) if hasattr(args, f.name)}
        return cls(**known)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_flags(parser: Any) -> None:
    """Declare the flags in a group of their own."""
    from sottovoce_router import MODES

    group = parser.add_argument_group("Sottovoce", "Latent and routed reasoning")
    for field in fields(ServerSettings):
        choices = MODES if field.name == "default_reasoning_mode" else None
        group.add_argument(
            _flag(field.name),
            type=type(field.default),
            default=field.default,
            choices=choices,
            help=_HELP[field.name],
        )
