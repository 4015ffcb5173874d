"""Soft Thinking and ThinkRouter as a plain float32 transformers loop.

Written from papers.md and design.md section 5 alone: it shares no line with the plugin, so that
agreement with the engine means something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2e.noise import gumbel_noise
from e2e.steps import Step

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

TIE_LOGPROB = 1e-4  # two candidates' log-probabilities (design.md section 6)
TIE_PROBABILITY = (
    1e-5  # p_max against tau, a mass against top-p, an entropy against Cold Stop's bar
)


@dataclass(frozen=True)
class Request:
    """What decides a request's tokens; the defaults are Soft Thinking's."""

    prompt: tuple[int, ...]
    policy: str | None = "soft"  # soft, thinkrouter, adaptive_greedy; None: explicit
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
    forced_end: tuple[int, ...] = ()  # what closes thinking by force; the end marker if empty


class Model:
    """A checkpoint in float32, its markers and the ids that are never mixed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.start = self.tokenizer.convert_tokens_to_ids("<think>")
        self.end = self.tokenizer.convert_tokens_to_ids("</think>")
        added = self.tokenizer.added_tokens_decoder
        self.special = frozenset({self.start, self.end} | {i for i in added if added[i].special})
        self._embedding = self._model.get_input_embeddings().weight.detach()

    def prompt(self, question: str) -> tuple[int, ...]:
        """The question in the chat template, which opens thinking."""
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text in which special tokens are spelt out."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def embed(self, tokens: tuple[int, ...]) -> torch.Tensor:
        """[T, H] ordinary inputs."""
        return self._embedding[list(tokens)]

    def feed(self, step: Step) -> torch.Tensor:
        """[1, H] what the model reads after a step: sum w_i E_i after a soft one, else E[token]."""
        if step.route != "soft":
            return self.embed((step.token,))
        weights = torch.tensor(list(step.weights.values()))
        return (weights[:, None] * self.embed(tuple(step.weights))).sum(0, keepdim=True)

    @torch.no_grad()
    def forward(self, embeds: torch.Tensor, cache: Any, num_kept: int = 1) -> tuple[Floats, Any]:
        """The logits [B, num_kept, V] of the last rows of `embeds` [B, T, H], and the grown cache."""
        out = self._model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=num_kept
        )
        return out.logits.float().numpy(), out.past_key_values


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


def tempered(request: Request, z: Floats) -> Doubles:
    """p = softmax(z / T_mix); T_mix is the request's temperature, and 1 where that is 0."""
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
    limit, top_p, min_p = filters(request)
    order = np.argsort(-p, kind="stable")[:limit]
    q = p[order]
    kept = (q.cumsum() - q < top_p) & (q >= min_p * q[0]) & (q > 0)
    kept &= np.array([int(i) not in never_mixed for i in order])
    kept[0] = True
    total = q[kept].sum()
    return {int(i): float(w / total) for i, w in zip(order[kept], q[kept], strict=True)}


@dataclass
class _Thinking:
    """Where a request stands in its thinking phase."""

    is_open: bool
    length: int  # tokens since the start marker
    has_ended: bool = False
    cold: int = 0  # thinking steps in a row that were sure of themselves
    forced: int = 0  # tokens of the forced end that were written

    @classmethod
    def of(cls, model: Model, prompt: tuple[int, ...]) -> _Thinking:
        last = {token: i for i, token in enumerate(prompt)}
        start = last.get(model.start, -1)
        return cls(start > last.get(model.end, -1), len(prompt) - 1 - start)

    def advance(self, model: Model, token: int) -> None:
        """Take in a recorded token; thinking begins and ends once."""
        if self.is_open:
            self.length += 1
            self.has_ended = token == model.end
            self.is_open = not self.has_ended
        elif token == model.start and not self.has_ended:
            self.is_open, self.length = True, 0


def _step(model: Model, request: Request, z: Floats, position: int, state: _Thinking) -> Step:
    """The step that the logits `z` at `position` lead to."""
    ending = request.forced_end or (model.end,)
    is_over_budget = request.budget is not None and state.length >= request.budget
    if state.is_open and is_over_budget:  # vLLM's way: no other token stands a chance
        z = z.copy()
        z[ending[state.forced]] = 1e9
    sampled = int(scores(request, z, position).argmax())
    if not state.is_open or request.policy is None:
        return Step(sampled)
    p = tempered(request, z)
    p_max = float((softmax(z) if request.confidence == "raw" else p).max())
    entropy = entropy_of(p)
    step = Step(sampled, "discrete", p_max, entropy, mixture(request, p, model.special))
    best = int(p.argmax())
    state.cold = state.cold + 1 if entropy < request.cold_entropy else 0
    is_sure = request.policy == "soft" or p_max >= request.threshold
    if state.forced or is_over_budget or 0 < request.cold_steps <= state.cold:
        state.forced += 1
        step = replace(step, token=ending[state.forced - 1], route="forced")
    elif is_sure and request.policy in ("soft", "thinkrouter"):
        step = replace(step, token=best, route="discrete" if best in model.special else "soft")
    elif is_sure and request.policy == "adaptive_greedy":
        step = replace(step, token=best)
    return step


def generate(model: Model, requests: list[Request]) -> list[list[Step]]:
    """All steps of requests with prompts of one length and one number of steps.

    It does not stop at the end-of-sequence token (`ignore_eos`).
    """
    (length,), (num_steps,) = {len(r.prompt) for r in requests}, {r.max_tokens for r in requests}
    states = [_Thinking.of(model, request.prompt) for request in requests]
    embeds, cache = torch.stack([model.embed(request.prompt) for request in requests]), None
    steps: list[list[Step]] = [[] for _ in requests]
    for position in range(length - 1, length - 1 + num_steps):
        z, cache = model.forward(embeds, cache)
        for i, (request, state) in enumerate(zip(requests, states, strict=True)):
            steps[i].append(_step(model, request, z[i, 0], position, state))
            state.advance(model, steps[i][-1].token)
        embeds = torch.stack([model.feed(taken[-1]) for taken in steps])
    return steps


def follow(model: Model, request: Request, recorded: list[Step]) -> tuple[list[Step], Floats]:
    """What each step should have been after the steps recorded before it, and its logits [n, V].

    One pass over the recorded inputs: rounding has no time to grow.
    """
    fed = [model.feed(step) for step in recorded[:-1]]
    embeds = torch.cat([model.embed(request.prompt), *fed])
    (z,), _ = model.forward(embeds[None], None, len(recorded))
    state, first = _Thinking.of(model, request.prompt), len(request.prompt) - 1
    steps: list[Step] = []
    for i, step in enumerate(recorded):
        steps.append(_step(model, request, z[i], first + i, state))
        state.advance(model, step.token)
    return steps, z


@dataclass(frozen=True)
class CloseCalls:
    """The decisions at one step that rounding could turn."""

    tokens: tuple[frozenset[int], ...]  # sets of tokens within a tie of the best: mixed, sampled
    boundaries: frozenset[str]  # of threshold, filter, entropy


def close_calls(request: Request, z: Floats, index: int) -> CloseCalls:
    """How close the decisions of step `index` are, whose logits are `z`."""
    p = tempered(request, z)
    noised = scores(request, z, len(request.prompt) - 1 + index)
    tokens = tuple(
        frozenset(np.flatnonzero(s >= s.max() - TIE_LOGPROB).tolist()) for s in (log(p), noised)
    )
    near: set[str] = set()
    p_max = float((softmax(z) if request.confidence == "raw" else p).max())
    entropy = entropy_of(p)
    if abs(p_max - request.threshold) <= TIE_PROBABILITY:
        near.add("threshold")
    if abs(entropy - request.cold_entropy) <= TIE_PROBABILITY:
        near.add("entropy")
    if _is_near_filter(request, p):
        near.add("filter")
    return CloseCalls(tokens, frozenset(near))


def _is_near_filter(request: Request, p: Doubles) -> bool:
    """Whether a candidate is within a tie of the mixture's or the sampler's top-k, top-p or min-p."""
    limit, top_p, min_p = filters(request)
    q = np.sort(p)[::-1]
    limits = {n for n in (limit, request.top_k) if 0 < n < q.size}
    near = any(log(q)[n - 1] - log(q)[n] <= TIE_LOGPROB for n in limits)
    if min_p > 0:
        near |= bool((abs(log(q) - log(q)[0] - math.log(min_p)) <= TIE_LOGPROB).any())
    if top_p < 1:
        kept = (q >= min_p * q[0]) & (np.arange(q.size) < (request.top_k or q.size))
        for mass in (q, np.where(kept, q, 0.0) / q[kept].sum()):
            near |= bool((abs(mass.cumsum() - top_p) <= TIE_PROBABILITY).any())
    return near
