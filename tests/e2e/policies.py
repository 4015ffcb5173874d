"""What each policy makes of a thinking step, written from papers.md alone."""

from __future__ import annotations

import numpy as np

from e2e.noise import mixture_noise
from e2e.request import Doubles, Request, spread_of
from e2e.steps import Step

Weights = dict[int, float]


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
