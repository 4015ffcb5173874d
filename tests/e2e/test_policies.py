"""The engine does what the loop does, policy by policy: 128 steps in float32, greedy and sampled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engines
from e2e.loop import FINAL_ANSWER, Model, Request, generate
from e2e.steps import routes_of

ALL = 128
QUESTION = "Why is the sky blue?"
# A policy, its parameters, whether it also takes discrete steps, and how many steps of a whole run are
# compared: noise of a low temperature and a wide push off the best token enlarge a rounding error at
# every step. What the engine makes of its own past is held at all steps.
CASES: list[tuple[str, dict[str, Any], bool, int]] = [
    ("stochastic", {}, False, 24),
    ("stochastic", {"gumbel_temperature": 1.5, "top_n": 32, "top_k": 0, "top_p": 1.0}, False, ALL),
    ("stochastic", {"gumbel_temperature": 4.0}, False, ALL),
    ("moi", {"top_n": 20}, False, ALL),
    ("moi", {"beta": 0.25, "top_n": 3, "temperature": 1.5}, False, ALL),
    ("selar", {"top_n": 3}, True, 8),
    ("selar", {"top_n": 3, "entropy_threshold": 0.8, "push_off": 0.25}, True, ALL),
    ("selar", {"top_n": 10, "entropy_threshold": 0.3, "push_off": 0.1}, True, ALL),
    ("random", {"soft_share": 0.6}, True, ALL),
    ("swi", {"window": 4}, True, ALL),
    ("swi", {"window": 1, "enter_blend": 0.6, "exit_blend": 0.5, "switch_budget": 40}, True, ALL),
    ("swi", {"window": 4, "mix": "full"}, True, ALL),
    (
        "swi",
        {"window": 1, "enter_blend": 0.6, "exit_blend": 0.5, "mix": "full", "top_n": 32},
        True,
        ALL,
    ),
    ("moi", {"top_n": 20, "phase": "all", "budget": 40}, False, ALL),
    ("selar", {"top_n": 10, "entropy_threshold": 0.3, "push_off": 0.5}, True, 8),
]


@pytest.mark.parametrize(("policy", "parameters", "is_mixed", "num_whole"), CASES)
def test_a_policy_follows_the_loop(
    engines: Engines,
    tally: Tally,
    llama: Model,
    policy: str,
    parameters: dict[str, Any],
    is_mixed: bool,
    num_whole: int,
) -> None:
    prompt = llama.prompt(QUESTION)
    asked = [
        Request(prompt, policy, cold_steps=0, max_tokens=ALL, **{**parameters, **sampling})
        for sampling in ({"temperature": 0.0}, {"seed": 21}, {"seed": 22, "temperature": 1.0})
    ]
    batch = engines.start(llama.path).run([prompt_of(request) for request in asked])
    had = [result.only.steps for result in batch.results]
    num_equal: list[int] = []
    for request, truth, steps in zip(asked, generate(llama, asked), had, strict=True):
        num_equal.append(tally.compare(llama, request, truth[:num_whole], steps[:num_whole]))
        tally.follow(llama, request, steps)
    assert num_equal.count(num_whole) >= 2, num_equal  # of three; a tie may end one
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
