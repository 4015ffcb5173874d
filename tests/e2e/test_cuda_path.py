"""The same again through the Triton kernels, vLLM's and ours, in Triton's interpreter.

That is the code a GPU runs, a hundred times slower: fewer requests and fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from e2e.compare import Tally, prompt_of
from e2e.engine import INTERPRETED, Batch, Engines
from e2e.loop import Model, Request, follow, generate
from e2e.models import tiny_llama

QUESTION = "List three prime numbers larger than 100, and add."
NUM_STEPS = 17
Batches = dict[str, Batch]


def requests(model: Model) -> list[Request]:
    """Greedy and sampled; each grows from two blocks to three, after some steps in the second."""
    prompt, more = model.prompt(QUESTION), {"max_tokens": NUM_STEPS}
    assert 32 < len(prompt) < 64 - 6 < 64 + 6 < len(prompt) + NUM_STEPS
    return [
        Request(prompt, "soft", temperature=0.0, **more),
        Request(prompt, "soft", seed=1, **more),
        Request(prompt, "thinkrouter", 0.7, temperature=0.0, **more),
        Request(prompt, "thinkrouter", 0.5, seed=3, confidence="raw", **more),
        Request(prompt, "swi", window=2, exit_blend=0.5, mix="full", seed=4, **more),
    ]


def mixed(model: Model) -> list[Request]:
    """One of every kind."""
    prompt, more = model.prompt("Hi"), {"max_tokens": 12}
    return [
        Request(prompt, "soft", seed=1, **more),
        Request(prompt, None, seed=2, **more),
        Request(prompt, "random", seed=3, **more),
        Request(prompt, "thinkrouter", 0.6, temperature=0.0, **more),
    ]


def closing_early(model: Model) -> list[Request]:
    """By the budget, and by Cold Stop."""
    prompt, more = model.prompt("Hi"), {"max_tokens": 12}
    return [
        Request(prompt, "soft", seed=1, budget=6, **more),
        Request(prompt, "soft", seed=2, cold_entropy=100.0, cold_steps=5, **more),
    ]


def certain(model: Model) -> Request:
    """So cold a mixture leaves nothing to the second best."""
    more = {"mix_temperature": 0.01, "seed": 6, "max_tokens": 10}
    return Request(model.prompt("Hi"), "thinkrouter", 1.0, **more)


def start_ahead(folder: Path) -> Callable[[], Batches]:
    """What becomes of them all."""
    model = Model(tiny_llama(folder))
    many, few = map(prompt_of, requests(model)), map(prompt_of, closing_early(model))
    late = [prompt_of(request, arrives=2 * i) for i, request in enumerate(mixed(model))]
    batches = {
        "preempted": [*many],
        "together": late,
        "closing": [*few, prompt_of(certain(model))],
        **{f"alone {i}": [replace(prompt, arrives=0)] for i, prompt in enumerate(late)},
    }
    # Six blocks of use, where four requests share one and grow to two more each.
    options = {"num_gpu_blocks_override": 7, "max_model_len": 128}

    def run() -> Batches:
        with closing(Engines(folder)) as engines:
            engine = engines.start(model.path, INTERPRETED, **options)
            return {name: engine.run(batch) for name, batch in batches.items()}

    return run


def test_the_interpreted_kernels_follow_the_loop_through_preemptions(
    made_ahead: Batches, tally: Tally, llama: Model
) -> None:
    asked, batch = requests(llama), made_ahead["preempted"]
    assert batch.num_preemptions >= 2
    for request, result, truth in zip(asked, batch.results, generate(llama, asked), strict=True):
        tally.compare(llama, request, truth, result.only.steps)
        tally.follow(llama, request, result.only.steps)


def test_mixed_requests_are_what_each_is_alone(
    made_ahead: Batches, tally: Tally, llama: Model
) -> None:
    for i, (request, other) in enumerate(
        zip(mixed(llama), made_ahead["together"].results, strict=True)
    ):
        (one,) = made_ahead[f"alone {i}"].results
        tally.compare(llama, request, one.only.steps, other.only.steps)


def test_a_budget_and_cold_stop_close_thinking(
    made_ahead: Batches, tally: Tally, llama: Model
) -> None:
    asked, results = closing_early(llama), made_ahead["closing"].results[:2]
    for request, result, truth in zip(asked, results, generate(llama, asked), strict=True):
        tally.compare(llama, request, truth, result.only.steps)
        assert "forced" in {step.route for step in result.only.steps}


def test_a_threshold_of_one_is_met_by_certainty(made_ahead: Batches, llama: Model) -> None:
    request, steps = certain(llama), made_ahead["closing"].results[2].only.steps
    wanted, _ = follow(llama, request, steps)
    routes = [have.route for want, have in zip(wanted, steps, strict=True) if want.p_max == 1.0]
    assert len(routes) > 5
    assert set(routes) == {"soft"}
