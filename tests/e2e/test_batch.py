"""A request's tokens and routes do not depend on what else is in the batch, or on when it came."""

from __future__ import annotations

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engine, Engines, Prompt, Result
from e2e.loop import Model, Request

GREEDY = {"temperature": 0.0}
MIXED = {"entropy_threshold": 0.8, "push_off": 0.25}  # of selar: soft and hard steps
QUESTIONS = (
    "Hi",
    "Why is the sky blue?",
    "List three prime numbers larger than 100, and add them up.",
)


def mixed_requests(model: Model) -> list[Request]:
    """Every policy, greedy and sampled, three prompt lengths, 24 to 96 tokens."""
    short, middle, long = (model.prompt(question) for question in QUESTIONS)
    return [
        Request(short, "soft", **GREEDY, max_tokens=64),
        Request(long, "thinkrouter", 0.4, seed=1, max_tokens=96),
        Request(middle, None, **GREEDY, max_tokens=40),
        Request(middle, "random", seed=2, max_tokens=72),
        Request(short, "adaptive_greedy", 0.6, seed=3, max_tokens=48),
        Request(long, "soft", seed=4, max_tokens=80, top_n=3),
        Request(middle, "thinkrouter", 0.7, **GREEDY, max_tokens=96),
        Request(short, None, seed=5, max_tokens=56),
        Request(long, "thinkrouter", 0.9, seed=6, max_tokens=64, confidence="raw"),
        Request(middle, "soft", seed=7, max_tokens=32, temperature=1.0, top_k=0, top_n=32),
        Request(short, "random", **GREEDY, max_tokens=88),
        Request(long, None, seed=8, max_tokens=24, temperature=1.3, top_p=1.0),
        Request(middle, "adaptive_greedy", 0.8, **GREEDY, max_tokens=40),
        Request(short, "thinkrouter", 0.5, seed=9, max_tokens=96, mix_temperature=1.2),
        Request(long, "soft", **GREEDY, max_tokens=96, budget=60),
        Request(
            middle, "thinkrouter", 0.7, seed=10, max_tokens=64, cold_entropy=3.0, cold_steps=30
        ),
        Request(short, "stochastic", seed=11, max_tokens=72, gumbel_temperature=1.5, top_n=32),
        Request(long, "moi", seed=12, max_tokens=48, top_n=20),
        Request(middle, "selar", seed=13, max_tokens=64, top_n=3, **MIXED),
        Request(long, "swi", seed=14, max_tokens=80, window=3, exit_blend=0.5),
        Request(short, "stochastic", **GREEDY, max_tokens=40),
        Request(middle, "moi", seed=15, max_tokens=88, top_n=20, phase="all", budget=50),
        Request(short, "selar", **GREEDY, max_tokens=56, top_n=3, **MIXED),
        Request(middle, "swi", **GREEDY, max_tokens=72, window=1, enter_blend=0.6, mix="full"),
        Request(
            short, "swi", seed=16, max_tokens=96, window=1, switch_budget=2, mix="full", phase="all"
        ),
    ]


def as_prompts(requests: list[Request]) -> list[Prompt]:
    """Three arrive at once, the others one every five steps; a third asks for no trace."""
    return [
        prompt_of(request, trace=i % 3 > 0, arrives=max(0, i - 2) * 5)
        for i, request in enumerate(requests)
    ]


def hold_same(
    model: Model, tally: Tally, requests: list[Request], alone: list[Result], together: list[Result]
) -> None:
    """Compare the records, and the tokens of requests that have none."""
    for request, one, other in zip(requests, alone, together, strict=True):
        if one.only.steps:
            tally.compare(model, request, one.only.steps, other.only.steps)
        else:
            assert one.only.token_ids == other.only.token_ids
            assert not other.only.steps


@pytest.fixture
def engine(engines: Engines, llama: Model) -> Engine:
    return engines.start(llama.path)


def test_mixed_requests_are_what_each_is_alone(engine: Engine, tally: Tally, llama: Model) -> None:
    requests = mixed_requests(llama)
    prompts = as_prompts(requests)
    alone = engine.run_alone(prompts)
    hold_same(llama, tally, requests, alone, list(engine.run(prompts).results))
    routes = [{step.route for step in result.only.steps} for result in alone]
    assert {"soft"} <= routes[0]


def test_slots_are_clean_when_they_are_used_again(
    engines: Engines, tally: Tally, llama: Model
) -> None:
    requests = mixed_requests(llama)
    prompts = as_prompts(requests)
    few = engines.start(llama.path, max_num_seqs=3)
    together = list(few.run(prompts).results)
    hold_same(llama, tally, requests, few.run_alone(prompts), together)
