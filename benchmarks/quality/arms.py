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


# Those among which ThinkRouter (2602.11683) chooses.
THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_COLD = "+cold@"
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
_WITHOUT_VALUE = {**_PLAIN, **_POLICIES}
_WITH_VALUE: dict[str, Callable[[float], dict[str, Any]]] = {
    "routed": _routed("thinkrouter", "threshold"),
    "adaptive_greedy": _routed("adaptive_greedy", "threshold"),
    "random": _routed("random", "soft_share"),
}


def parse_arm(name: str) -> Arm:
    """`explicit`, `latent`, `plain`, a policy's name, `routed@0.7`, or another that takes a value.

    After `+cold@`, the steps of Cold Stop (0: off) in place of the server's: `routed@0.7+cold@64`.

    Raises:
        ValueError: for any other name.
    """
    kind, has_value, value = name.partition("@")
    if not has_value and kind in _WITHOUT_VALUE:
        return Arm(name, _WITHOUT_VALUE[kind])
    value, has_cold, steps = value.partition(_COLD)
    try:
        body = _WITH_VALUE[kind](float(value))
        if has_cold:
            body["routing"]["cold_stop"] = {"steps": int(steps)}
    except (KeyError, ValueError):
        known = [*_WITHOUT_VALUE, *(f"{kind}@NUMBER[{_COLD}STEPS]" for kind in _WITH_VALUE)]
        raise ValueError(f"{name!r} is not an arm: give one of {', '.join(known)}") from None
    return Arm(name, body)
