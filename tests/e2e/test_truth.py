"""The engine does what the papers' loop does: tokens, routes, weights, confidence and entropy."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from e2e.compare import Tally, prompt_of
from e2e.engine import SERVED, Engines
from e2e.loop import Model, Request, follow, generate
from e2e.steps import Step, routes_of
from sottovoce_server.models import MODELS
from sottovoce_server.smollm2 import smollm2_path
from sottovoce_training.families import FAMILIES

POLICIES = [("soft", 0.7), ("thinkrouter", 0.4), ("thinkrouter", 0.7), ("thinkrouter", 0.9)]
QUESTION = "Why is the sky blue?"


def requests(prompt: tuple[int, ...]) -> list[Request]:
    """Every policy, greedy and sampled."""
    greedy = [Request(prompt, policy, tau, temperature=0.0) for policy, tau in POLICIES]
    seeds = itertools.count(11)
    return greedy + [Request(prompt, policy, tau, seed=next(seeds)) for policy, tau in POLICIES]


def run(engines: Engines, model: Model, asked: list[Request]) -> list[list[Step]]:
    """The steps of requests that ran as one batch."""
    batch = engines.start(model.path).run([prompt_of(request) for request in asked])
    return [result.only.steps for result in batch.results]


def hold(engines: Engines, tally: Tally, model: Model) -> Counter[str | None]:
    """Compare every run with the loop's, and every step with its past; count the routes."""
    asked = requests(model.prompt(QUESTION))
    had = run(engines, model, asked)
    for request, truth, steps in zip(asked, generate(model, asked), had, strict=True):
        tally.compare(model, request, truth, steps)
        tally.follow(model, request, steps)
    return Counter(route for steps in had for route in routes_of(steps))


@functools.cache
def smollm2() -> Model:
    """The converted SmolLM2."""
    return Model(smollm2_path())


def start_ahead(folder: Path) -> Callable[[], list[list[Step]]]:
    """What SmolLM2 makes of them, as served."""
    path, asked = smollm2().path, requests(smollm2().prompt(QUESTION))

    def steps() -> list[list[Step]]:
        with closing(Engines(folder)) as engines:
            batch = engines.start(path, SERVED).run([prompt_of(request) for request in asked])
        return [result.only.steps for result in batch.results]

    return steps


def test_smollm2_as_served_follows_the_loop(made_ahead: list[list[Step]], tally: Tally) -> None:
    """Every step after its past; whole runs where the router's discrete steps hold the drift back.

    Left to themselves, soft runs drift: after 50 soft steps of SmolLM2 the loop in float32 and the
    loop in float64 are 2e-3 apart in the weights, and so is the engine from either.
    """
    model, had = smollm2(), made_ahead
    asked = requests(model.prompt(QUESTION))
    for request, steps in zip(asked, had, strict=True):
        tally.follow(model, request, steps)
    whole = [2, 3, 6]  # thinkrouter: greedy at 0.7 and 0.9, sampled at 0.7
    for i, truth in zip(whole, generate(model, [asked[i] for i in whole]), strict=True):
        tally.compare(model, asked[i], truth, had[i])
    routes = Counter(route for steps in had for route in routes_of(steps))
    assert min(routes["soft"], routes["discrete"]) > 100


def test_the_tiny_reasoner_follows_the_loop(engines: Engines, tally: Tally) -> None:
    """The model that ships, on a problem of its own; trained, so it is mostly sure."""
    model = Model(MODELS["tiny-reasoner"].path())
    problem = FAMILIES["countdown"].problem(1)
    asked = [replace(r, max_tokens=96) for r in requests(model.prompt(problem.question))]
    had = run(engines, model, asked)
    for request, truth, steps in zip(asked, generate(model, asked), had, strict=True):
        tally.compare(model, request, truth, steps)
        tally.follow(model, request, steps)
    routes = Counter(route for steps in had for route in routes_of(steps))
    assert routes["soft"] > 100


def test_tiny_llama_follows_the_loop(engines: Engines, tally: Tally, llama: Model) -> None:
    routes = hold(engines, tally, llama)
    assert min(routes["soft"], routes["discrete"]) > 200


def test_every_option_of_the_mixture_follows_the_loop(
    engines: Engines, tally: Tally, llama: Model
) -> None:
    prompt = llama.prompt("List three prime numbers.")
    asked = [
        Request(prompt, "thinkrouter", 0.5, confidence="raw", seed=1),
        Request(prompt, "thinkrouter", 0.5, mix_temperature=1.5, seed=2),
        Request(prompt, "soft", top_n=1),
        Request(prompt, "soft", top_n=32, top_k=0, top_p=1.0, min_p=0.0, temperature=1.0),
        Request(prompt, "soft", top_n=20, top_k=4, top_p=0.5, min_p=0.2),
        Request(prompt, "adaptive_greedy", 0.6, seed=3),
    ]
    truths = generate(llama, asked)
    for request, truth, steps in zip(asked, truths, run(engines, llama, asked), strict=True):
        tally.compare(llama, request, truth, steps)


def test_a_traced_explicit_request_is_observed_and_left_alone(
    engines: Engines, tally: Tally, llama: Model
) -> None:
    request = Request(llama.prompt(QUESTION), None, seed=4)
    ((truth,), (steps,)) = generate(llama, [request]), run(engines, llama, [request])
    assert [step.token for step in steps] == [step.token for step in truth]
    assert set(routes_of(steps)) == {"discrete"}
    assert all(step.p_max > 0 for step in steps)


def test_a_threshold_of_one_is_met_by_certainty(engines: Engines, llama: Model) -> None:
    """Strictly below goes discrete; so cold a mixture leaves nothing to the second best."""
    request = Request(llama.prompt(QUESTION), "thinkrouter", 1.0, mix_temperature=0.01, seed=6)
    (steps,) = run(engines, llama, [request])
    wanted, _ = follow(llama, request, steps)
    certain = [
        have.route
        for want, have in zip(wanted, steps, strict=True)
        if want.p_max == 1.0 and want.token not in llama.special
    ]
    assert len(certain) > request.max_tokens / 2
    assert set(certain) == {"soft"}


def test_tiny_qwen3_follows_the_loop(engines: Engines, tally: Tally, qwen3: Model) -> None:
    routes = hold(engines, tally, qwen3)
    assert min(routes["soft"], routes["discrete"], routes[None]) > 100


def test_thinking_that_the_model_opens_itself_is_routed(
    engines: Engines, tally: Tally, qwen3: Model
) -> None:
    """From the marker on; hot enough that these seeds write one."""
    prompt = qwen3.encode("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    hot = {"temperature": 2.0, "mix_temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    asked = [
        Request(prompt, "thinkrouter", 0.4, seed=seed, max_tokens=64, **hot)
        for seed in (38, 69, 81)
    ]
    had = run(engines, qwen3, asked)
    for request, truth, steps in zip(asked, generate(qwen3, asked), had, strict=True):
        tally.compare(qwen3, request, truth, steps)
        opened = [step.token for step in steps].index(qwen3.start)
        assert set(routes_of(steps)[: opened + 1]) == {None}
        assert "soft" in routes_of(steps)[opened + 1 :]
