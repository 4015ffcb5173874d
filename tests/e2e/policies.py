"""What each policy makes of a thinking step, written from papers.md alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2e.noise import coin, mixture_noise
from e2e.request import Doubles, Request, spread_of
from e2e.steps import Step

Weights = dict[int, float]


@dataclass
class Switching:
    """Where `swi` stands."""

    is_soft: bool = True
    reference: float | None = None  # the entropy at the last switch
    stay: int = 0  # steps in the present mode, that of the switch included
    num_left: int = 0  # switches from soft to discrete
    turned: str = ""  # what this step switched: enter, leave


def choose(
    request: Request, step: Step, p: Doubles, sampled: int, position: int
) -> tuple[int, Weights]:
    """The token to record and the weights to feed, none for a hard step.

    Args:
        step: a hard one, with p_max, entropy and the mixture.
        p: softmax(z / T) over the vocabulary; position: of the last input.
    """
    best, is_sure = int(p.argmax()), step.p_max >= request.threshold
    if request.policy == "soft" or (request.policy == "thinkrouter" and is_sure):
        return best, step.weights
    if request.policy == "random" and coin(request.seed, position + 1) < request.soft_share:
        return best, step.weights
    if request.policy == "adaptive_greedy" and is_sure:
        return best, {}
    if request.policy == "stochastic":
        return _stochastic(request, step.weights, position, p.size)
    spread = spread_of(p, request.top_n)
    if request.policy == "moi":
        return sampled, _moi(request, step.weights, spread, sampled)
    if request.policy == "selar" and spread >= request.entropy_threshold:
        away = {i: w - (i == best) for i, w in step.weights.items()}
        push = request.push_off * spread
        return best, {i: w + push * away[i] for i, w in step.weights.items()}
    return sampled, {}


def winning(request: Request, weights: Weights, position: int, vocab_size: int) -> Doubles:
    """log w + Gumbel noise of every component, minus infinity for other tokens."""
    noised = np.full(vocab_size, -np.inf)
    for token, weight in weights.items():
        noised[token] = np.log(weight) + mixture_noise(request.seed, position + 1, token)
    return noised


def _stochastic(
    request: Request, weights: Weights, position: int, vocab_size: int
) -> tuple[int, Weights]:
    noised = winning(request, weights, position, vocab_size)
    y = np.exp((noised - noised.max()) / request.gumbel_temperature)
    y /= y.sum()
    return int(noised.argmax()), {token: float(y[token]) for token in weights}


def _moi(request: Request, weights: Weights, spread: float, sampled: int) -> Weights:
    total = request.beta + 1
    fed = {i: spread * w / total for i, w in weights.items()}
    fed[sampled] = fed.get(sampled, 0.0) + (total - spread) / total
    return fed


def switch(request: Request, entropy: float, state: Switching) -> None:
    """Take in a step's entropy: at the first step, or at a switch, it becomes the reference."""
    state.stay, state.turned = state.stay + 1, ""
    if state.reference is None:
        state.reference = entropy
    elif state.is_soft and entropy < state.reference:
        state.turned, state.num_left = "leave", state.num_left + 1
    elif not state.is_soft and entropy > state.reference and state.stay > request.window:
        state.turned = "enter"
    if state.turned:
        state.is_soft, state.reference, state.stay = not state.is_soft, entropy, 1


def must_close(request: Request, state: Switching) -> bool:
    """Whether the last step left soft once more than the switch budget lets pass."""
    return state.turned == "leave" and 0 < request.switch_budget <= state.num_left


def forced(state: Switching) -> None:
    """Take in a step that was forced, which passes in the present mode."""
    state.stay, state.turned = state.stay + 1, ""


def switched(
    request: Request, weights: Weights, state: Switching, done: float, markers: tuple[int, int]
) -> Weights:
    """What `swi` feeds, none for a hard step; `done` is t / T_max, the markers start and end."""
    if not state.turned:
        return weights if state.is_soft else {}
    is_entry = state.turned == "enter"
    first = request.enter_blend if is_entry else request.exit_blend
    share = first + (1 - first) * done
    fed = {i: share * w for i, w in weights.items()}
    return fed if share >= 1 else {**fed, markers[0 if is_entry else 1]: 1 - share}
