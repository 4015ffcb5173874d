"""The engine does what the loop does, policy by policy: 128 steps in float32, greedy and sampled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engines
from e2e.loop import FINAL_ANSWER, Model, Request, generate
from e2e.steps import routes_of

# How many steps of a whole run are compared, where that is not all: noise of a low temperature and the
# push off the best token enlarge a rounding error at every step. What the engine makes of its own
# past is held at all steps.
NUM_WHOLE = {"stochastic": 24, "selar": 8}
QUESTION = "Why is the sky blue?"
# A policy, its parameters, and whether it also takes discrete steps.
CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("stochastic", {}, False),
    ("stochastic", {"gumbel_temperature": 1.5, "top_n": 32, "top_k": 0, "top_p": 1.0}, False),
    ("moi", {"top_n": 20}, False),
    ("moi", {"beta": 0.25, "top_n": 3, "temperature": 1.5}, False),
    ("selar", {"top_n": 3}, True),
    ("swi", {"window": 4}, True),
    ("swi", {"window": 1, "enter_blend": 0.6, "exit_blend": 0.5, "switch_budget": 40}, True),
    ("swi", {"window": 4, "mix": "full"}, True),
    ("swi", {"window": 1, "enter_blend": 0.6, "exit_blend": 0.5, "mix": "full", "top_n": 32}, True),
    ("moi", {"top_n": 20, "phase": "all", "budget": 40}, False),
    ("selar", {"top_n": 10, "entropy_threshold": 0.3, "push_off": 0.5}, True),
]


@pytest.mark.parametrize(("policy", "parameters", "is_mixed"), CASES)
def test_a_policy_follows_the_loop(
    engines: Engines,
    tally: Tally,
    llama: Model,
    policy: str,
    parameters: dict[str, Any],
    is_mixed: bool,
) -> None:
    prompt = llama.prompt(QUESTION)
    asked = [
        Request(prompt, policy, cold_steps=0, **{**parameters, **sampling})
        for sampling in ({"temperature": 0.0}, {"seed": 21}, {"seed": 22, "temperature": 1.0})
    ]
    batch = engines.start(llama.path).run([prompt_of(request) for request in asked])
    had = [result.only.steps for result in batch.results]
    for request, truth, steps in zip(asked, generate(llama, asked), had, strict=True):
        whole = slice(NUM_WHOLE.get(policy))
        tally.compare(llama, request, truth[whole], steps[whole])
        tally.follow(llama, request, steps)
    routes = Counter(route for steps in had for route in routes_of(steps))
    assert routes["soft"] > 50
    assert routes["discrete"] > 20 or not is_mixed


@pytest.mark.parametrize("mix", ["top_n", "full"])
def test_swi_forces_markers_and_then_a_final_answer(
    engines: Engines, tally: Tally, llama: Model, mix: str
) -> None:
    """In all phases: an end marker at each switch, and past twice the budget the phrase, once."""
    more: dict[str, Any] = {"window": 1, "switch_budget": 2, "phase": "all", "mix": mix}
    prompt, phrase = llama.prompt(QUESTION), (llama.end, *llama.encode(FINAL_ANSWER))
    asked = [
        Request(prompt, "swi", cold_steps=0, **more, **sampling)
        for sampling in ({"temperature": 0.0}, {"seed": 21}, {"seed": 22, "temperature": 1.0})
    ]
    batch = engines.start(llama.path).run([prompt_of(request) for request in asked])
    had = [result.only.steps for result in batch.results]
    num_phrases = 0
    for request, truth, steps in zip(asked, generate(llama, asked), had, strict=True):
        tally.compare(llama, request, truth, steps)
        tally.follow(llama, request, steps)
        tokens = tuple(step.token for step in steps)
        places = [i for i in range(len(tokens)) if tokens[i : i + len(phrase)] == phrase]
        assert len(places) <= 1
        if places:
            assert tokens[: places[0]].count(llama.end) == 3  # after 2, 3 and 4 switches
            num_phrases += 1
    assert num_phrases > 0
