"""Thinking ends when it must: at vLLM's budget, at Cold Stop, with a phrase where one is set."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engines
from e2e.loop import Model, Request, generate
from e2e.steps import Step, routes_of

QUESTION = "Why is the sky blue?"
BUDGET = 20
NUM_STEPS = 40
POLICIES: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    ("soft", {}),
    ("stochastic", {}),
    ("moi", {"top_n": 20}),
    ("moi", {"top_n": 20, "phase": "all"}),
    ("thinkrouter", {}),
    ("random", {}),
    ("adaptive_greedy", {}),
    ("selar", {"top_n": 3}),
    ("swi", {"window": 4}),
    ("swi", {"window": 4, "mix": "full"}),
]
PHRASE = "\nTime is up.</think>\n"


def run(
    engines: Engines, tally: Tally, model: Model, asked: list[Request], **options: object
) -> list[list[Step]]:
    """The steps of requests in one batch, held to the loop."""
    batch = engines.start(model.path, **options).run([prompt_of(request) for request in asked])
    had = [result.only.steps for result in batch.results]
    for request, truth, steps in zip(asked, generate(model, asked), had, strict=True):
        tally.compare(model, request, truth, steps)
    return had


def num_thought_in(prompt: tuple[int, ...], model: Model) -> int:
    """Tokens of the prompt after the start marker; vLLM counts them too."""
    return len(prompt) - 1 - prompt.index(model.start)


@pytest.mark.parametrize("policy", ["soft", "thinkrouter"])
def test_the_budget_counts_soft_steps_and_forces_the_end(
    engines: Engines, tally: Tally, llama: Model, policy: str
) -> None:
    prompt = llama.prompt(QUESTION)
    asked = [
        Request(prompt, policy, budget=BUDGET, max_tokens=NUM_STEPS, **sampling)
        for sampling in ({"temperature": 0.0}, {"seed": 1})
    ]
    num_thought = BUDGET - num_thought_in(prompt, llama)
    for steps in run(engines, tally, llama, asked):
        routes = routes_of(steps)
        assert set(routes[:num_thought]) <= {"soft", "discrete"}
        assert "soft" in routes[:num_thought]
        assert routes[num_thought:] == ["forced"] + [None] * (NUM_STEPS - num_thought - 1)
        assert steps[num_thought].token == llama.end


def test_cold_stop_forces_the_end_on_the_step_that_completes_the_count(
    engines: Engines, tally: Tally, llama: Model
) -> None:
    more = {"cold_entropy": 100.0, "cold_steps": 3, "max_tokens": 10}
    prompt = llama.prompt(QUESTION)
    asked = [
        Request(prompt, "soft", seed=1, **more),
        Request(prompt, "thinkrouter", seed=2, **more),
    ]
    for steps in run(engines, tally, llama, asked):
        routes = routes_of(steps)
        assert set(routes[:2]) <= {"soft", "discrete"}
        assert routes[2:] == ["forced"] + [None] * 7
        assert steps[2].token == llama.end


def test_cold_stop_counts_steps_in_a_row(engines: Engines, tally: Tally, llama: Model) -> None:
    """An entropy that the loop crosses now and then: the count starts over."""
    asked = [
        Request(llama.prompt(QUESTION), "soft", seed=1, cold_entropy=1.0, cold_steps=steps)
        for steps in (2, 4, 0)
    ]
    early, late, never = (routes_of(steps) for steps in run(engines, tally, llama, asked))
    assert early.index("forced") < late.index("forced")
    assert "forced" not in never


def test_the_budget_holds_in_every_policy(engines: Engines, tally: Tally, llama: Model) -> None:
    """And in `explicit`; soft steps count as tokens do."""
    more = {"budget": BUDGET, "max_tokens": NUM_STEPS}
    num_thought, num_forced = BUDGET - num_thought_in(llama.prompt(QUESTION), llama), 0
    for request, steps in in_every_policy(engines, tally, llama, {}, **more):
        tokens = [step.token for step in steps]
        if llama.end not in tokens[:num_thought]:
            assert routes_of(steps)[num_thought] == "forced", request.policy
            num_forced += 1
        assert llama.end in tokens[: num_thought + 1], request.policy
    assert num_forced > len(POLICIES) // 2


@pytest.mark.parametrize("phrase", [None, PHRASE])
def test_the_answer_keeps_its_tokens_in_every_policy(
    engines: Engines, tally: Tally, llama: Model, phrase: str | None
) -> None:
    """The end marker begins as late as it may; an ended phase is left alone."""
    ending = llama.encode(phrase) if phrase else (llama.end,)
    more = {"max_tokens": NUM_STEPS, "min_answer": 15, "forced_end": ending}
    options = {"reasoning_config": {"reasoning_end_str": phrase}} if phrase else {}
    first, num_forced = NUM_STEPS - 15 - len(ending), 0
    for request, steps in in_every_policy(engines, tally, llama, options, **more):
        tokens = [step.token for step in steps]
        if llama.end not in tokens[:first]:
            assert routes_of(steps)[first] == "forced"
            assert tuple(tokens[first : first + len(ending) - 1]) == ending[:-1]
            num_forced += 1
        assert llama.end in tokens[: NUM_STEPS - 15], request.policy
    assert num_forced > len(POLICIES) // 2


def test_a_phrase_of_many_tokens_is_written_whole(
    engines: Engines, tally: Tally, llama: Model
) -> None:
    """By the budget and by Cold Stop; the answer begins after the end marker inside it."""
    prompt, phrase = llama.prompt(QUESTION), llama.encode(PHRASE)
    assert phrase.index(llama.end) == len(phrase) - 2
    more = {"forced_end": phrase, "max_tokens": NUM_STEPS}
    asked = [
        Request(prompt, "soft", seed=1, budget=BUDGET, **more),
        Request(prompt, "soft", seed=2, cold_entropy=100.0, cold_steps=5, **more),
    ]
    options = {"reasoning_config": {"reasoning_end_str": PHRASE}}
    for steps in run(engines, tally, llama, asked, **options):
        counts = Counter(routes_of(steps))
        assert counts["forced"] == len(phrase) - 1  # what follows the marker belongs to the answer
        first = routes_of(steps).index("forced")
        assert tuple(step.token for step in steps)[first:][: len(phrase) - 1] == phrase[:-1]


def in_every_policy(
    engines: Engines, tally: Tally, model: Model, options: dict[str, Any], **more: Any
) -> list[tuple[Request, list[Step]]]:
    """A request of each, and `explicit`, in one batch, with its steps, held to the loop."""
    prompt = model.prompt(QUESTION)
    asked = [
        Request(prompt, policy, seed=3, cold_steps=0, **{**parameters, **more})
        for policy, parameters in POLICIES
    ]
    batch = engines.start(model.path, **options).run([prompt_of(request) for request in asked])
    had = [result.only.steps for result in batch.results]
    for request, steps in zip(asked, had, strict=True):
        if request.policy is None:
            (truth,) = generate(model, [request])
            assert [step.token for step in steps] == [step.token for step in truth]
        elif request.policy != "random":  # whose coins the loop does not know
            tally.follow(model, request, steps)
    return list(zip(asked, had, strict=True))
