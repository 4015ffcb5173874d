"""The policies as a plain float32 transformers loop.

Written from papers.md and design.md section 5 alone: it shares no line with the plugin, so that
agreement with the engine means something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2e.policies import (
    Switching,
    Weights,
    choose,
    forced,
    must_close,
    switch,
    switched,
    winning,
)
from e2e.request import (
    Doubles,
    Floats,
    Request,
    all_of,
    entropy_of,
    filters,
    log,
    mixture,
    scores,
    softmax,
    spread_of,
    tempered,
)
from e2e.steps import Step

FINAL_ANSWER = "\n\nThe final answer is"
TIE_LOGPROB = 1e-4  # two candidates' log-probabilities (design.md section 6)
TIE_PROBABILITY = (
    1e-5  # p_max against tau, a mass against top-p, an entropy against Cold Stop's bar
)


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
        """[1, H] what the model reads after a step: sum w_i E_i after a soft one, else E[token].

        A recorded step has no more of a mixture than its record tells.
        """
        fed = step.fed or (step.weights if step.route == "soft" else {})
        if not fed:
            return self.embed((step.token,))
        weights = torch.tensor(list(fed.values()))
        return (weights[:, None] * self.embed(tuple(fed))).sum(0, keepdim=True)

    @torch.no_grad()
    def forward(self, embeds: torch.Tensor, cache: Any, num_kept: int = 1) -> tuple[Floats, Any]:
        """The logits [B, num_kept, V] of the last rows of `embeds` [B, T, H], and the grown cache."""
        out = self._model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=num_kept
        )
        return out.logits.float().numpy(), out.past_key_values


@dataclass
class _Thinking:
    """Where a request stands in its thinking phase."""

    is_open: bool
    length: int  # tokens since the start marker
    has_ended: bool = False
    cold: int = 0  # thinking steps in a row that were sure of themselves
    forced: int = 0  # tokens of the forced end that were written
    switching: Switching = field(default_factory=Switching)
    goes_on: bool = False  # past an end that the switch budget forced
    writing: tuple[int, ...] = ()  # what is still to be written there

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
    last_start = request.max_tokens - len(ending) - request.min_answer
    is_late = request.min_answer > 0 and position + 1 - len(request.prompt) >= last_start
    if not state.is_open:
        return _outside(model, request, z, sampled, position, state)
    if request.policy is None:
        state.forced += is_late or state.forced > 0
        return Step(ending[state.forced - 1], "forced") if state.forced else Step(sampled)
    p = tempered(request, z)
    p_max = float((softmax(z) if request.confidence == "raw" else p).max())
    entropy = entropy_of(p)
    step = Step(sampled, "discrete", p_max, entropy, mixture(request, p, model.special))
    state.cold = state.cold + 1 if entropy < request.cold_entropy else 0
    is_spent = must_close(request, state.switching)
    is_sure = 0 < request.cold_steps <= state.cold
    if state.forced or is_over_budget or is_late or is_spent or is_sure:
        state.forced += 1
        state.goes_on = request.phase == "all" and (state.goes_on or is_spent)
        forced(state.switching)
        return replace(step, token=ending[state.forced - 1], route="forced")
    token, fed = choose(request, step, p, sampled, position)
    told = fed
    if request.policy == "swi":
        fed, told = _turn(model, request, step, p, position, state)
    if not fed or {token, int(p.argmax())} & model.special:
        return replace(step, token=token)
    return replace(step, token=token, route="soft", weights=told, fed=fed)


def _turn(
    model: Model, request: Request, step: Step, p: Doubles, position: int, state: _Thinking
) -> tuple[Weights, Weights]:
    """What `swi` feeds at a step, and what its record tells of that."""
    switch(request, step.entropy, state.switching)
    done = (position + 1 - len(request.prompt)) / request.max_tokens
    markers = (model.start, model.end)
    whole = all_of(p, model.special) if request.mix == "full" else step.weights
    fed, told = (
        switched(request, w, state.switching, done, markers) for w in (whole, step.weights)
    )
    return fed, told


def _outside(
    model: Model, request: Request, z: Floats, sampled: int, position: int, state: _Thinking
) -> Step:
    """A step before or after thinking: hard, unless the policy goes on."""
    is_over = request.policy == "swi" and state.has_ended and not state.goes_on
    if request.phase != "all" or is_over:
        return Step(sampled)
    if state.has_ended and must_close(request, state.switching):
        is_past = state.switching.num_left > 2 * request.switch_budget
        state.writing = (model.end, *(model.encode(FINAL_ANSWER) if is_past else ()))
    if state.writing:
        token, *rest = state.writing
        state.writing = tuple(rest)
        forced(state.switching)
        state.goes_on = bool(rest) or state.switching.num_left <= 2 * request.switch_budget
        return Step(token)
    p = tempered(request, z)
    step = Step(sampled, "discrete", 0.0, entropy_of(p), mixture(request, p, model.special))
    token, fed = choose(request, step, p, sampled, position)
    if request.policy == "swi":
        fed, _ = _turn(model, request, step, p, position, state)
        state.goes_on = state.goes_on and token != model.end
    return Step(token, fed={} if {token, int(p.argmax())} & model.special else fed)


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
    if request.mix == "full" or request.phase == "all":
        return _follow_by_steps(model, request, recorded)
    fed = [model.feed(step) for step in recorded[:-1]]
    embeds = torch.cat([model.embed(request.prompt), *fed])
    (z,), _ = model.forward(embeds[None], None, len(recorded))
    state, first = _Thinking.of(model, request.prompt), len(request.prompt) - 1
    steps: list[Step] = []
    for i, step in enumerate(recorded):
        steps.append(_step(model, request, z[i], first + i, state))
        state.advance(model, step.token)
    return steps, z


def _follow_by_steps(
    model: Model, request: Request, recorded: list[Step]
) -> tuple[list[Step], Floats]:
    """As `follow` where the record does not tell all that was fed: with the mixtures of its own."""
    state, first = _Thinking.of(model, request.prompt), len(request.prompt) - 1
    embeds, cache = model.embed(request.prompt)[None], None
    steps: list[Step] = []
    logits: list[Floats] = []
    for i, taken in enumerate(recorded):
        z, cache = model.forward(embeds, cache)
        logits.append(z[0, 0])
        steps.append(_step(model, request, z[0, 0], first + i, state))
        state.advance(model, taken.token)
        is_as_taken = (taken.token, taken.route) == (steps[-1].token, steps[-1].route)
        embeds = model.feed(steps[-1] if is_as_taken else taken)[None]
    return steps, np.stack(logits)


@dataclass(frozen=True)
class CloseCalls:
    """The decisions at one step that rounding could turn."""

    tokens: tuple[frozenset[int], ...]  # sets of tokens within a tie of the best: mixed, sampled
    boundaries: frozenset[str]  # of threshold, filter, entropy, spread


def close_calls(request: Request, z: Floats, index: int) -> CloseCalls:
    """How close the decisions of step `index` are, whose logits are `z`."""
    p, position = tempered(request, z), len(request.prompt) - 1 + index
    rivals = [log(p), scores(request, z, position)]
    if request.policy == "stochastic":
        rivals.append(winning(request, mixture(request, p, frozenset()), position, z.size))
    tokens = tuple(frozenset(np.flatnonzero(s >= s.max() - TIE_LOGPROB).tolist()) for s in rivals)
    near: set[str] = set()
    p_max = float((softmax(z) if request.confidence == "raw" else p).max())
    entropy = entropy_of(p)
    if abs(p_max - request.threshold) <= TIE_PROBABILITY:
        near.add("threshold")
    if abs(entropy - request.cold_entropy) <= TIE_PROBABILITY:
        near.add("entropy")
    if abs(spread_of(p, request.top_n) - request.entropy_threshold) <= TIE_PROBABILITY:
        near.add("spread")
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
