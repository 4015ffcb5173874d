"""Arms: what a run asks of the server, by name, and how it samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arm:
    """A reasoning mode with its parameters; `body` is what a request gains."""

    name: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: OpenAI's fields, and vLLM's further ones."""

    name: str
    fields: dict[str, Any]
    extra: dict[str, Any]

    def seed(self, sample: int) -> int:
        """The request's seed: a run can be repeated, and its samples differ."""
        return 1000 + sample


# The sampling of ThinkRouter's and Soft Thinking's published configurations.
SAMPLINGS: dict[str, Sampling] = {
    "greedy": Sampling("greedy", {"temperature": 0.0}, {}),
    "t0.6": Sampling(
        "t0.6", {"temperature": 0.6, "top_p": 0.95}, {"top_k": 30, "min_p": 0.001}
    ),
}  # fmt: skip


def _policy(mode: str, policy: str, **routing: Any) -> dict[str, Any]:
    return {"reasoning_mode": mode, "routing": {"policy": policy, **routing}}


def _routed(policy: str, parameter: str) -> Callable[[float], dict[str, Any]]:
    return lambda value: _policy("routed", policy, **{parameter: value})


# What System-1.5 (2505.18962) is measured in: latent steps, the depth shortcut alone, and each off.
SHORTCUT_STEPS = (1, 2, 3, 4, 6, 8)
SHORTCUT_DEPTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHORTCUT_ARMS = (
    "shortcuts",
    *(f"shortcuts@{steps}" for steps in SHORTCUT_STEPS),
    *(f"shortcuts@{steps}+depth@off" for steps in SHORTCUT_STEPS),
    "shortcuts@0+depth@off",
    *(f"shortcuts@0+depth@{depth}" for depth in SHORTCUT_DEPTHS),
)  # fmt: skip
# Those among which ThinkRouter (2602.11683) chooses.
THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_COLD, _DEPTH = "+cold@", "+depth@"
_PLAIN: dict[str, dict[str, Any]] = {
    "plain": {},  # servers that know no modes
    "explicit": {"reasoning_mode": "explicit"},
    "latent": {"reasoning_mode": "latent"},
}
# Policies at their own defaults, and one as its paper has it.
_POLICIES: dict[str, dict[str, Any]] = {
    "stochastic": _policy("latent", "stochastic"),
    "moi": _policy("latent", "moi"),
    "selar": _policy("routed", "selar"),
    "swi": _policy("routed", "swi"),
    "swi_full": _policy("routed", "swi", mix="full"),
}
_WITHOUT_VALUE = {**_PLAIN, **_POLICIES, "shortcuts": {"shortcuts": {}}}
_WITH_VALUE: dict[str, Callable[[float], dict[str, Any]]] = {
    "routed": _routed("thinkrouter", "threshold"),
    "adaptive_greedy": _routed("adaptive_greedy", "threshold"),
    "random": _routed("random", "soft_share"),
}


def _shortcuts(value: str) -> dict[str, Any]:
    """`STEPS` or `STEPS+depth@DEPTH`, whose depth may be `off`; the rest is as the model has it."""
    steps, has_depth, depth = value.partition(_DEPTH)
    asked: dict[str, Any] = {"steps": int(steps)}
    if has_depth:
        asked["depth"] = None if depth == "off" else float(depth)
    return {"shortcuts": asked}


def _body(kind: str, value: str) -> dict[str, Any]:
    if kind == "shortcuts":
        return _shortcuts(value)
    value, has_cold, steps = value.partition(_COLD)
    body = _WITH_VALUE[kind](float(value))
    if has_cold:
        body["routing"]["cold_stop"] = {"steps": int(steps)}
    return body


def parse_arm(name: str) -> Arm:
    """`explicit`, `latent`, `plain`, a policy's name, `routed@0.7`, or another that takes a value.

    After `+cold@`, the steps of Cold Stop (0: off) in place of the server's: `routed@0.7+cold@64`.
    `shortcuts` is the model's own number of latent steps and depth, `shortcuts@2` two steps,
    `shortcuts@0+depth@0.5` the depth shortcut alone, `shortcuts@2+depth@off` the steps alone.

    Raises:
        ValueError: for any other name.
    """
    kind, has_value, value = name.partition("@")
    if not has_value and kind in _WITHOUT_VALUE:
        return Arm(name, _WITHOUT_VALUE[kind])
    try:
        return Arm(name, _body(kind, value))
    except (KeyError, ValueError):
        known = [
            *_WITHOUT_VALUE, *(f"{kind}@NUMBER[{_COLD}STEPS]" for kind in _WITH_VALUE),
            f"shortcuts@STEPS[{_DEPTH}DEPTH|off]",
        ]  # fmt: skip
        raise ValueError(f"{name!r} is not an arm: give one of {', '.join(known)}") from None


def matched_arm(name: str) -> str | None:
    """The arm whose soft share `random@ARM` takes over; None for any other name."""
    kind, _, other = name.partition("@")
    is_number = other.partition(_COLD)[0].replace(".", "", 1).isdigit()
    return None if kind != "random" or not other or is_number else other
