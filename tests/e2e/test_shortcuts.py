"""Generations with shortcuts equal the reference, alone and beside requests of every other mode."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.compare import prompt_of
from e2e.engine import Engine, Engines, Prompt, Result
from e2e.request import Request
from e2e.shortcut_models import Shortcut, llama, qwen2
from e2e.shortcut_runs import Asked, follow, skips
from e2e.steps import routes_of
from sottovoce_training.shortcuts.modules import Variant

OPTIONS: dict[str, Any] = {"max_logprobs": -1}
QUESTION = "Why is the sky blue?"


@pytest.fixture(scope="module", params=["shortcut_llama", "shortcut_qwen3"])
def model(request: Any) -> Shortcut:
    return request.getfixturevalue(request.param)


@pytest.fixture
def engine(engines: Engines, model: Shortcut) -> Engine:
    return engines.start(model.path, **OPTIONS)


def requests(model: Shortcut) -> list[Asked]:
    """Some, all and no layers skipped; with and without latent steps."""
    prompt, other = model.prompt(QUESTION), model.prompt("List three prime numbers.")
    return [
        Asked(prompt, 4, 0.5),
        Asked(other, 0, 0.5),
        Asked(prompt, 2, 0.0),
        Asked(prompt, 3, None),
        Asked(other, 0, 1.0),
        Asked(other, 1, 0.4),
    ]


def others(model: Shortcut) -> list[Prompt]:
    """Explicit, soft and routed requests of the base model."""
    prompt = model.prompt(QUESTION)
    asked = [
        Request(prompt, None, temperature=0.0, max_tokens=24),
        Request(prompt, "soft", temperature=0.0, max_tokens=24),
        Request(prompt, "thinkrouter", 0.7, seed=3, max_tokens=24),
    ]
    return [prompt_of(request) for request in asked]


def test_a_generation_is_the_references(engine: Engine, model: Shortcut) -> None:
    asked = requests(model)
    for request, result in zip(
        asked, engine.run_alone([a.as_prompt() for a in asked]), strict=True
    ):
        follow(model, request, result.only)


def test_a_batch_of_them_is_the_references(engine: Engine, model: Shortcut) -> None:
    """Arriving one after another, so that prompts are read beside latent steps and text."""
    asked = requests(model)
    prompts = [a.as_prompt(arrives=2 * i) for i, a in enumerate(asked)]
    results = engine.run(prompts).results
    found = [follow(model, a, r.only) for a, r in zip(asked, results, strict=True)]
    latent, text = found[0][1:5], found[0][5:] + found[1][1:]
    assert skips(latent) == skips(text) == {True, False}
    assert skips(found[2][1:]) == {True}


def test_rows_that_skip_do_not_attend_to_long_contexts(engine: Engine, model: Shortcut) -> None:
    """More than 256 positions each, so that two that skip every layer are enough."""
    prompts = [model.prompt(f"{n} questions: " + QUESTION * 20) for n in (2, 3, 5, 7)]
    assert min(map(len, prompts)) > 256
    shapes = [(2, 0.0), (0, None), (0, 0.0), (2, 0.5)]
    asked = [Asked(p, *shape, num_tokens=12) for p, shape in zip(prompts, shapes, strict=True)]
    results = engine.run([a.as_prompt() for a in asked]).results
    for request, result in zip(asked, results, strict=True):
        follow(model, request, result.only)


def outline(result: Result) -> list[Any]:
    return [(step.token, step.route) for step in result.only.steps]


def test_other_modes_beside_them_are_as_ever(engine: Engine, model: Shortcut) -> None:
    asked, base = requests(model), others(model)
    alone = engine.run(base).results
    late = [Prompt(p.token_ids, p.sampling, arrives=i) for i, p in enumerate(base)]
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)] + late).results
    for request, result in zip(asked, results, strict=False):
        follow(model, request, result.only)
    assert [outline(r) for r in results[len(asked) :]] == [outline(r) for r in alone]
    assert "soft" in routes_of(results[-1].only.steps)


def test_the_rest_of_a_cpus_engine_is_compiled(engines: Engines, shortcut_llama: Shortcut) -> None:
    """The model's own layers are, the student's are not; and both are as ever."""
    model, before = shortcut_llama, engines.start(shortcut_llama.path, **OPTIONS).num_compiled()
    engine = engines.start(model.path, **{**OPTIONS, "enforce_eager": False})
    asked, base = requests(model), others(model)
    alone = engine.run(base).results
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)] + base).results
    for request, result in zip(asked, results, strict=False):
        follow(model, request, result.only)
    assert [outline(r) for r in results[len(asked) :]] == [outline(r) for r in alone]
    assert engine.num_compiled() > before


def test_no_skipping_is_the_plain_student(engine: Engine, model: Shortcut) -> None:
    """Neither depth 1, which no w is above, nor null skips; the base is another model."""
    prompt = model.prompt(QUESTION)
    plain, full = (Asked(prompt, 0, depth).as_prompt() for depth in (None, 1.0))
    base = Prompt(prompt, {k: v for k, v in plain.sampling.items() if k != "extra_args"})
    student, at_one, teacher = (r.only for r in engine.run_alone([plain, full, base]))
    assert student.token_ids == at_one.token_ids != teacher.token_ids
    follow(model, Asked(prompt, 0, None), at_one)


def test_the_trace_shows_latent_steps(engine: Engine, model: Shortcut) -> None:
    asked = Asked(model.prompt(QUESTION), 3, 0.5, more={"include_reasoning_trace": 1})
    (result,) = engine.run([asked.as_prompt()]).results
    positions = follow(model, asked, result.only)
    assert routes_of(result.only.steps)[:5] == ["latent"] * 3 + ["forced", None]
    for position, step in zip(positions[:3], result.only.steps, strict=False):
        assert max(step.weights, key=step.weights.__getitem__) == int(position.logits.argmax())
        assert len(step.weights) > 1


@pytest.mark.parametrize("shows", [True, False])
@pytest.mark.parametrize("streams", [True, False])
def test_placeholders_have_no_text(
    engine: Engine, model: Shortcut, shows: bool, streams: bool
) -> None:
    asked = Asked(model.prompt(QUESTION), 3, 0.5)
    sampled = {"skip_special_tokens": not shows, "n": 2, "temperature": 1.0, "seed": 5}
    sampling = asked.as_prompt().sampling | sampled
    (result,) = engine.run([Prompt(asked.prompt, sampling, streams=streams)]).results
    assert len(result.choices) == 2
    for choice in result.choices:
        follow(model, asked, choice, is_greedy=False)
        text = model.tokenizer.decode(choice.token_ids[3:], skip_special_tokens=not shows)
        # Half a character at the end is held back.
        assert choice.text.rstrip("\ufffd") == text.rstrip("\ufffd") != ""


def test_queries_keys_and_values_may_have_biases(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = qwen2(tmp_path_factory.mktemp("qwen2"))
    asked = requests(model)
    engine = engines.start(model.path, **OPTIONS)
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)]).results
    found = [follow(model, a, r.only) for a, r in zip(asked, results, strict=True)]
    assert skips(found[0][1:]) == skips(found[1][1:]) == {True, False}


@pytest.mark.parametrize("variant", [Variant(step=False), Variant(depth=False)])
def test_one_shortcut_alone(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory, variant: Variant
) -> None:
    model = llama(tmp_path_factory.mktemp("one-shortcut"), variant)
    asked = requests(model)
    engine = engines.start(model.path, **OPTIONS)
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)]).results
    found = [follow(model, a, r.only) for a, r in zip(asked, results, strict=True)]
    assert True in skips(found[2][1:3])
    assert skips(found[1]) == ({True, False} if variant.depth else {False})
