"""A request, and the distributions that the logits of its steps stand for: in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2e.noise import gumbel_noise

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """What decides a request's tokens; the defaults are Soft Thinking's."""

    prompt: tuple[int, ...]
    policy: str | None = "soft"  # None: explicit
    threshold: float = 0.7
    confidence: str = "tempered"
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 30
    min_p: float = 0.001
    top_n: int = 10
    mix_temperature: float | None = None
    seed: int = 0
    max_tokens: int = 128
    cold_entropy: float = 0.01
    cold_steps: int = 256
    budget: int | None = None
    soft_share: float = 0.5
    gumbel_temperature: float = 0.5
    beta: float = 1.0
    entropy_threshold: float = 0.5
    push_off: float = 1.0
    window: int = 512
    enter_blend: float = 1.0
    exit_blend: float = 0.7
    switch_budget: int = 0
    mix: str = "top_n"  # or full
    phase: str = "think"  # or all
    min_answer: int = 0
    forced_end: tuple[int, ...] = ()  # what closes thinking by force; the end marker if empty


def softmax(z: Floats) -> Doubles:
    """In double precision, of float32 logits."""
    e = np.exp((z - z.max()).astype(np.float64))
    p: Doubles = e / e.sum()
    return p


def log(p: Doubles) -> Doubles:
    """log p, and minus infinity where p is 0."""
    return np.log(p, out=np.full_like(p, -np.inf), where=p > 0)


def entropy_of(p: Doubles) -> float:
    """In nats."""
    q = p[p > 0]
    return float(-(q * np.log(q)).sum())


def spread_of(p: Doubles, n: int) -> float:
    """Entropy of the best n candidates alone, over its maximum."""
    q = np.sort(p)[::-1][:n]
    return entropy_of(q / q.sum()) / math.log(n) if n > 1 else 0.0


def tempered(request: Request, z: Floats) -> Doubles:
    """p = softmax(z / T_mix); T_mix is the request's temperature, and 1 where that is 0, or in swi."""
    if request.policy == "swi":
        return softmax(z)
    return softmax(z / np.float32(request.mix_temperature or request.temperature or 1.0))


def scores(request: Request, z: Floats, position: int) -> Floats:
    """What vLLM takes the argmax of: temperature, min-p, top-k and top-p, in that order, then noise."""
    if request.temperature == 0:
        return z
    x = (z / np.float32(request.temperature)).astype(np.float32)
    order = np.argsort(-x, kind="stable")
    best = x[order]
    kept = best >= best[0] + math.log(request.min_p) if request.min_p > 0 else best > -np.inf
    if 0 < request.top_k < z.size:
        kept &= best >= best[request.top_k - 1]
    p = softmax(np.where(kept, best, np.float32(-np.inf)))
    kept &= p.cumsum() - p < request.top_p
    survivors = order[kept]
    out = np.full(z.size, -np.inf, np.float32)
    out[survivors] = (x + gumbel_noise(request.seed, position, z.size))[survivors]
    return out


def filters(request: Request) -> tuple[int, float, float]:
    """How many candidates, top-p and min-p of the mixture; vLLM drops filters of greedy requests."""
    if request.temperature == 0:
        return request.top_n, 1.0, 0.0
    return min(request.top_k or request.top_n, request.top_n), request.top_p, request.min_p


def mixture(request: Request, p: Doubles, never_mixed: frozenset[int]) -> dict[int, float]:
    """The renormalised weights, best first. Ties go to the lowest id."""
    if request.mix == "full":
        return part_of_all(request, p, never_mixed)
    limit, top_p, min_p = filters(request)
    order = np.argsort(-p, kind="stable")[:limit]
    q = p[order]
    kept = (q.cumsum() - q < top_p) & (q >= min_p * q[0]) & (q > 0)
    kept &= np.array([int(i) not in never_mixed for i in order])
    kept[0] = True
    total = q[kept].sum()
    return {int(i): float(w / total) for i, w in zip(order[kept], q[kept], strict=True)}


def part_of_all(request: Request, p: Doubles, never_mixed: frozenset[int]) -> dict[int, float]:
    """What is told of a mixture of the whole vocabulary: the best, with their probabilities."""
    best = [int(i) for i in np.argsort(-p, kind="stable")[: request.top_n]]
    kept = {i: float(p[i]) for i in best if i == best[0] or i not in never_mixed}
    return {i: weight for i, weight in kept.items() if np.float32(weight) > 0}


def all_of(p: Doubles, never_mixed: frozenset[int]) -> dict[int, float]:
    """The mixture of the whole vocabulary."""
    kept = {i: float(x) for i, x in enumerate(p) if i not in never_mixed}
    total = sum(kept.values())
    return {i: x / total for i, x in kept.items()}
