"""The same again through the Triton kernels, vLLM's and ours, in Triton's interpreter.

That is the code a GPU runs, a hundred times slower: fewer requests and fewer steps.
"""

from __future__ import annotations

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import INTERPRETED, Engine, Engines
from e2e.loop import Model, Request, follow, generate

QUESTION = "List three prime numbers larger than 100, and add."
NUM_STEPS = 17


@pytest.fixture
def engine(engines: Engines, llama: Model) -> Engine:
    """Six blocks of use, where four requests share one and grow to two more each."""
    return engines.start(llama.path, INTERPRETED, num_gpu_blocks_override=7, max_model_len=128)


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


def test_the_interpreted_kernels_follow_the_loop_through_preemptions(
    engine: Engine, tally: Tally, llama: Model
) -> None:
    asked = requests(llama)
    batch = engine.run([prompt_of(request) for request in asked])
    assert batch.num_preemptions >= 2
    for request, result, truth in zip(asked, batch.results, generate(llama, asked), strict=True):
        tally.compare(llama, request, truth, result.only.steps)
        tally.follow(llama, request, result.only.steps)


def test_mixed_requests_are_what_each_is_alone(engine: Engine, tally: Tally, llama: Model) -> None:
    prompt, more = llama.prompt("Hi"), {"max_tokens": 12}
    asked = [
        Request(prompt, "soft", seed=1, **more),
        Request(prompt, None, seed=2, **more),
        Request(prompt, "random", seed=3, **more),
        Request(prompt, "thinkrouter", 0.6, temperature=0.0, **more),
    ]
    prompts = [prompt_of(request, arrives=2 * i) for i, request in enumerate(asked)]
    alone = engine.run_alone(prompts)
    for request, one, other in zip(asked, alone, engine.run(prompts).results, strict=True):
        tally.compare(llama, request, one.only.steps, other.only.steps)


def test_a_budget_and_cold_stop_close_thinking(engine: Engine, tally: Tally, llama: Model) -> None:
    prompt, more = llama.prompt("Hi"), {"max_tokens": 12}
    asked = [
        Request(prompt, "soft", seed=1, budget=6, **more),
        Request(prompt, "soft", seed=2, cold_entropy=100.0, cold_steps=5, **more),
    ]
    batch = engine.run([prompt_of(request) for request in asked])
    for request, result, truth in zip(asked, batch.results, generate(llama, asked), strict=True):
        tally.compare(llama, request, truth, result.only.steps)
        assert "forced" in {step.route for step in result.only.steps}


def test_a_threshold_of_one_is_met_by_certainty(engine: Engine, tally: Tally, llama: Model) -> None:
    more = {"mix_temperature": 0.01, "seed": 6, "max_tokens": 10}
    request = Request(llama.prompt("Hi"), "thinkrouter", 1.0, **more)
    (steps,) = (result.only.steps for result in engine.run([prompt_of(request)]).results)
    wanted, _ = follow(llama, request, steps)
    certain = [have.route for want, have in zip(wanted, steps, strict=True) if want.p_max == 1.0]
    assert len(certain) > 5
    assert set(certain) == {"soft"}
