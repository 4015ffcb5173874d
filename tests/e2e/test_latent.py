"""Latent-trained models equal a loop in transformers, alone and beside requests of every other mode."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.compare import prompt_of
from e2e.engine import Engine, Engines, Prompt, Result
from e2e.latent_models import TEXT, Latent, gpt2, llama
from e2e.latent_runs import Asked, follow
from e2e.request import Request
from e2e.steps import routes_of

OPTIONS: dict[str, Any] = {"max_logprobs": -1}
QUESTIONS = ("Why is the sky blue?", "List three primes.", "What is 7 times 8?", "Who are you?")
FAMILIES = {"llama": llama, "gpt2": gpt2}
KINDS = [(family, method) for family in FAMILIES for method in ("coconut", "codi", "atp")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Latent:
    family, method = request.param
    return FAMILIES[family](tmp_path_factory.mktemp("latent"), method)


@pytest.fixture
def engine(engines: Engines, model: Latent) -> Engine:
    return engines.start(model.path, **OPTIONS)


def requests(model: Latent) -> list[Asked]:
    """As many steps as the model says, and other numbers of them."""
    prompts = [model.prompt(question) for question in QUESTIONS]
    asked = [Asked(prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    return [*asked, Asked(prompts[0], 1, 7), Asked(prompts[1], 3, 8), Asked(prompts[2], 8, 9)]


def others(model: Latent) -> list[Prompt]:
    """Explicit, soft and routed requests of the same weights."""
    prompt = model.prompt(QUESTIONS[0])
    asked = [
        Request(prompt, None, temperature=0.0, max_tokens=16),
        Request(prompt, "soft", temperature=0.0, max_tokens=16),
        Request(prompt, "thinkrouter", 0.7, seed=3, max_tokens=16),
    ]
    return [prompt_of(request) for request in asked]


def outline(result: Result) -> list[Any]:
    return [(step.token, step.route) for step in result.only.steps]


def test_a_generation_is_the_references(engine: Engine, model: Latent) -> None:
    asked = requests(model)[1:6:2]
    results = engine.run_alone([a.as_prompt() for a in asked])
    for request, result in zip(asked, results, strict=True):
        follow(model, request, result.only)


def test_a_mixed_batch_is_the_references(engine: Engine, model: Latent) -> None:
    """Arriving one after another, so that prompts are read beside latent steps and text."""
    asked, base = requests(model), others(model)
    alone = engine.run(base).results
    late = [Prompt(p.token_ids, p.sampling, arrives=2 * i) for i, p in enumerate(base)]
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)] + late).results
    taken = [follow(model, a, r.only) for a, r in zip(asked, results, strict=False)]
    assert [outline(r) for r in results[len(asked) :]] == [outline(r) for r in alone]
    if model.method == "atp":
        assert {n < a.most(model) for n, a in zip(taken, asked, strict=True)} == {True, False}
        assert len(set(taken)) > 2
    else:
        assert taken == [a.most(model) for a in asked]


def test_the_trace_reads_the_latents(engine: Engine, model: Latent) -> None:
    """By the head of the language model; and what stands for them has no text."""
    asked = Asked(model.prompt(QUESTIONS[0]), 3, more={"include_reasoning_trace": 1})
    sampling = asked.as_prompt().sampling | {"skip_special_tokens": False}
    (result,) = engine.run([Prompt(asked.prompt, sampling)]).results
    taken = follow(model, asked, result.only)
    steps, tokens = result.only.steps, result.only.token_ids
    assert routes_of(steps)[: taken + 2] == ["latent"] * taken + ["forced", None]
    for step, logprobs in zip(steps[:taken], result.only.logprobs, strict=False):
        assert len(step.weights) > 1
        best = max(step.weights, key=step.weights.__getitem__)
        assert logprobs[best] == max(logprobs.values())
    text = model.tokenizer.decode(tokens[taken:], skip_special_tokens=False)
    # Half a character at the end is held back.
    assert result.only.text.rstrip("\ufffd") == text.rstrip("\ufffd")
    assert text.startswith("</think>")


def test_the_trace_has_steps_in_words(engine: Engine, model: Latent) -> None:
    """As the step decoder of the directory writes them, beside requests without; alone, the same."""
    asked = [
        Asked(model.prompt(question), None, seed, more={"include_reasoning_trace": 1})
        for seed, question in enumerate(QUESTIONS, start=8)
    ]
    prompts = [a.as_prompt(arrives=i) for i, a in enumerate(asked)]
    untraced = Asked(asked[0].prompt, 5).as_prompt()
    *results, quiet = engine.run([*prompts, untraced, *others(model)]).results[: len(asked) + 1]
    assert {step.text for step in quiet.only.steps} == {None}
    texts: list[tuple[int, ...] | None] = []
    took: list[int] = []
    for a, result in zip(asked, results, strict=True):
        want = model.think(a.prompt, result.only.token_ids, a.most(model), a.seed)
        read = [model.words(z) if model.reads(i) else None for i, z in enumerate(want.latents)]
        assert [step.text for step in result.only.steps] == read + [None] * (20 - len(read))
        texts += read
        took.append(len(read))
    if model.method != "coconut":
        lengths = {len(text) for text in texts if text is not None}
        assert min(lengths) < TEXT
        assert len(set(texts)) > 2
    assert (min(took) < asked[0].most(model) - 1) == (
        model.method == "atp"
    )  # past a stop none is read


def test_a_seed_decides_what_is_drawn(engine: Engine, model: Latent) -> None:
    """Of the methods that draw; every choice of one request draws its own."""
    asked = Asked(model.prompt(QUESTIONS[1]), 4, seed=5)
    unseeded = asked.as_prompt().sampling | {"seed": None}
    prompts = [asked.as_prompt(), asked.as_prompt(), Asked(asked.prompt, 4, seed=6).as_prompt()]
    prompts += [Prompt(asked.prompt, unseeded)] * 2
    first, again, other, one, two = (r.only.logprobs[3] for r in engine.run_alone(prompts))
    assert first == again
    draws = model.method == "atp"
    assert (first != other, one != two, first != one) == (draws, draws, draws)
    sampling = asked.as_prompt().sampling | {"n": 2, "temperature": 1.0}
    (result,) = engine.run([Prompt(asked.prompt, sampling)]).results
    for index, choice in enumerate(result.choices):
        follow(model, asked, choice, is_greedy=False, seed=5 + index)


def test_a_budget_bounds_the_steps(engine: Engine, model: Latent) -> None:
    """Of which the prompt has used one: a line ends behind the start marker."""
    asked = Asked(model.prompt(QUESTIONS[2]), 2)
    sampling = Asked(asked.prompt, 6).as_prompt().sampling | {"thinking_token_budget": 3}
    (result,) = engine.run([Prompt(asked.prompt, sampling)]).results
    follow(model, asked, result.only)


def test_a_policy_that_is_named_still_decides(engine: Engine, model: Latent) -> None:
    extra = {"reasoning_mode": "latent", "routing": {"policy": "soft"}}
    sampling = {"max_tokens": 8, "ignore_eos": True, "extra_args": extra}
    (result,) = engine.run([Prompt(model.prompt(QUESTIONS[3]), sampling)]).results
    assert routes_of(result.only.steps)[0] == "soft"
