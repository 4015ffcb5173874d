"""Holds an engine's steps to what they should be: equal, or different at a numerical tie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from e2e.engine import Prompt
from e2e.loop import Floats, Model, Request, close_calls, follow
from e2e.steps import Step

WEIGHT_TOLERANCE = 1e-4
P_MAX_TOLERANCE = 1e-4
ENTROPY_TOLERANCE = 1e-3  # nats; an entropy sums over the vocabulary
MAX_TIE_SHARE = 0.03  # of the compared requests; rounding is rarely to blame

_READS: dict[str, tuple[str, ...]] = {  # of a request's fields, besides the mixture's
    "thinkrouter": ("threshold", "confidence"),
    "adaptive_greedy": ("threshold", "confidence"),
    "random": ("soft_share",),
    "stochastic": ("gumbel_temperature",),
    "moi": ("beta", "phase"),
    "selar": ("entropy_threshold", "push_off"),
    "swi": ("window", "enter_blend", "exit_blend", "switch_budget", "mix", "phase"),
}
_MODES = {None: "explicit", "soft": "latent", "stochastic": "latent", "moi": "latent"}


def prompt_of(request: Request, trace: bool = True, arrives: int = 0, **more: Any) -> Prompt:
    """A request as the engine takes it; `more` goes to the sampling parameters."""
    names = ("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens")
    sampling: dict[str, Any] = {name: getattr(request, name) for name in names}
    extra: dict[str, Any] = {"include_reasoning_trace": int(trace)}
    if request.policy is not None:
        extra["reasoning_mode"] = _MODES.get(request.policy, "routed")
        extra["routing"] = {
            "policy": request.policy,
            "top_n": request.top_n,
            "mix_temperature": None if request.policy == "swi" else request.mix_temperature,
            "cold_stop": {"entropy": request.cold_entropy, "steps": request.cold_steps},
            **{key: getattr(request, key) for key in _READS.get(request.policy, ())},
        }
    if request.min_answer:
        extra.setdefault("routing", {})["min_answer_tokens"] = request.min_answer
    if request.budget is not None:
        sampling["thinking_token_budget"] = request.budget
    sampling |= {"ignore_eos": True, "extra_args": extra} | more
    return Prompt(request.prompt, sampling, arrives)


def difference(want: Step, have: Step) -> str | None:
    """How two steps differ; what follows from a token's or a route's difference goes unnamed."""
    if (want.token, want.route) != (have.token, have.route):
        return "choice"
    if want.weights.keys() != have.weights.keys():
        return "candidates"
    for i, weight in want.weights.items():
        if abs(weight - have.weights[i]) > WEIGHT_TOLERANCE:
            return "weights"
    if abs(want.p_max - have.p_max) > P_MAX_TOLERANCE:
        return "p_max"
    return "entropy" if abs(want.entropy - have.entropy) > ENTROPY_TOLERANCE else None


def is_tie(request: Request, z: Floats, index: int, want: Step, have: Step) -> bool:
    """Whether rounding of the logits `z` explains that step `index` differs."""
    kind = difference(want, have)
    if kind not in ("choice", "candidates"):
        return False
    close = close_calls(request, z, index)
    if kind == "choice" and any({want.token, have.token} <= tokens for tokens in close.tokens):
        return True
    return bool(close.boundaries)


@dataclass
class Tally:
    """Compared requests, and the ties that they met."""

    num_compared: int = 0
    ties: list[str] = field(default_factory=list)

    def compare(self, model: Model, request: Request, want: list[Step], have: list[Step]) -> int:
        """Fail unless two runs are equal; after a tie they may be anything.

        Returns the number of equal steps.
        """
        self.num_compared += 1
        for i, (w, h) in enumerate(zip(want, have, strict=False)):
            if difference(w, h) is not None:
                _, z = follow(model, request, want[: i + 1])
                self._require_tie(model, request, z[i], i, w, h)
                return i
        assert len(want) == len(have), f"{len(want)} steps wanted, {len(have)} had"
        return len(want)

    def follow(self, model: Model, request: Request, have: list[Step]) -> None:
        """Fail unless every step is what the loop does after the steps recorded before it."""
        self.num_compared += 1
        steps, z = follow(model, request, have)
        for i, (want, h) in enumerate(zip(steps, have, strict=True)):
            if difference(want, h) is not None:
                self._require_tie(model, request, z[i], i, want, h)

    def _require_tie(
        self, model: Model, request: Request, z: Floats, index: int, want: Step, have: Step
    ) -> None:
        kind = difference(want, have)
        assert is_tie(request, z, index, want, have), (
            f"step {index}: {kind} differs\nwant {want}\nhave {have}\n{request}"
        )
        where = f"{model.path.name}, {request.policy}, seed {request.seed}, step {index}"
        self.ties.append(f"{where}: {kind}")
        assert len(self.ties) <= 2 + MAX_TIE_SHARE * self.num_compared, self.ties
