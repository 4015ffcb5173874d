"""A preempted request goes on as if nothing had happened: its soft inputs are replayed."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engines
from e2e.loop import Model, Request, generate
from e2e.steps import routes_of

QUESTION = "Why is the sky blue?"
NUM_STEPS = 96
# The requests grow to five blocks each, and one block is never used.
CRAMPED: dict[str, Any] = {"num_gpu_blocks_override": 16, "max_model_len": 256}
# Of moi: inputs so far from the tokens that one which is lost changes those to come.
FAR: dict[str, Any] = {"beta": 0.0, "temperature": 1.5, "top_n": 20}


def requests(model: Model) -> list[Request]:
    """In the order in which they come; the first three stay.

    Two are ended by Cold Stop, whose count must survive, as must the turns and vectors of `swi`.
    """
    prompt, more = model.prompt(QUESTION), {"max_tokens": NUM_STEPS}
    return [
        Request(prompt, "soft", temperature=0.0, **more),
        Request(prompt, "soft", seed=1, **more),
        Request(prompt, "soft", seed=2, top_n=4, temperature=1.0, **more),
        Request(prompt, "moi", phase="all", budget=40, seed=13, **FAR, **more),
        Request(prompt, "swi", phase="all", window=1, switch_budget=2, mix="full", seed=14, **more),
        Request(prompt, "stochastic", gumbel_temperature=1.5, top_n=16, seed=10, **more),
        Request(prompt, "selar", top_n=3, entropy_threshold=0.8, push_off=0.25, seed=11, **more),
        Request(prompt, "random", seed=12, **more),
        Request(prompt, "soft", seed=6, cold_entropy=100.0, cold_steps=70, **more),
        Request(prompt, "soft", seed=7, cold_entropy=100.0, cold_steps=10, **more),
        Request(prompt, "swi", window=3, exit_blend=0.5, temperature=0.0, **more),
        Request(prompt, "swi", window=3, enter_blend=0.6, mix="full", seed=8, **more),
        Request(prompt, "moi", top_n=20, cold_steps=0, seed=9, **more),
        Request(prompt, "adaptive_greedy", 0.6, seed=5, **more),
        Request(prompt, "thinkrouter", 0.4, temperature=0.0, **more),
        Request(prompt, "thinkrouter", 0.4, seed=3, **more),
        Request(prompt, "thinkrouter", 0.7, temperature=0.0, **more),
        Request(prompt, "thinkrouter", 0.7, seed=4, **more),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"enable_prefix_caching": True},
        {"enable_prefix_caching": False},
        # What a returning request has generated is computed again in three pieces or more.
        {"enable_prefix_caching": False, "max_num_batched_tokens": 32},
    ],
    ids=["prefix-cache", "no-prefix-cache", "chunked"],
)
def test_preempted_requests_go_on_as_if_they_had_not_been(
    engines: Engines, tally: Tally, llama: Model, options: dict[str, Any]
) -> None:
    asked = requests(llama)
    prompts = [prompt_of(request) for request in asked]
    engine = engines.start(llama.path, **CRAMPED, **options)
    batch = engine.run(prompts)
    assert batch.num_preemptions >= 4
    alone = [engine.run([prompt]) for prompt in prompts]
    assert sum(one.num_preemptions for one in alone) == 0
    slots = [step.takes_slot for result in batch.results for step in result.only.steps]
    # A replay in pieces may be preempted itself.
    assert 4 <= sum(slots) - len(asked) <= batch.num_preemptions
    returned: set[tuple[str | None, str]] = set()
    for request, one, result, truth in zip(
        asked, alone, batch.results, generate(llama, asked), strict=True
    ):
        steps = result.only.steps
        *_, last = (i for i, step in enumerate(steps) if step.takes_slot)
        if request.phase == "all":
            assert steps[last].route is None, "preempted before the answer"
        elif request.cold_entropy < 1:
            assert None not in routes_of(steps), "preempted after thinking"
        if last > 0:
            returned.add((request.policy, request.phase))
        tally.compare(llama, request, one.results[0].only.steps, steps)
        tally.compare(llama, request, truth, steps)
    assert returned == {(request.policy, request.phase) for request in asked}
