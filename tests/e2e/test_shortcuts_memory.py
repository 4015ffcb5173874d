"""Shortcuts outlive preemption, and their cache blocks are shared with nobody they do not suit."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.engine import Engines, Prompt
from e2e.shortcut_models import Shortcut
from e2e.shortcut_runs import Asked, follow

QUESTION = (
    "List three prime numbers larger than 100, add them up, and tell me whether that is prime."
)
BLOCK_SIZE = 32
# Ten requests grow to five blocks each, and one block is never used.
CRAMPED: dict[str, Any] = {"num_gpu_blocks_override": 16, "max_model_len": 256, "max_logprobs": -1}


@pytest.fixture
def model(shortcut_llama: Shortcut) -> Shortcut:
    return shortcut_llama


def num_filled(length: int) -> int:
    """Tokens of the blocks that so many tokens fill."""
    return length // BLOCK_SIZE * BLOCK_SIZE


@pytest.mark.parametrize(
    "options",
    [
        {"enable_prefix_caching": True},
        # What a returning request has generated is computed again in pieces, latent steps among it.
        {"enable_prefix_caching": False, "max_num_batched_tokens": 32},
    ],
    ids=["prefix-cache", "chunked"],
)
def test_preempted_requests_go_on_as_if_they_had_not_been(
    engines: Engines, model: Shortcut, options: dict[str, Any]
) -> None:
    prompt = model.prompt("Why is the sky blue?")
    shapes = [(40, 0.5), (40, None), (7, 0.5), (0, 0.5), (0, 0.0), (1, 0.5)] * 2
    asked = [Asked(prompt, steps, depth, num_tokens=96) for steps, depth in shapes[:10]]
    batch = engines.start(model.path, **CRAMPED, **options).run([a.as_prompt() for a in asked])
    assert batch.num_preemptions >= 4
    for request, result in zip(asked, batch.results, strict=True):
        follow(model, request, result.only)


def test_prompts_are_shared_among_their_own(engines: Engines, model: Shortcut) -> None:
    engine = engines.start(model.path, max_logprobs=-1)
    engine.forget_prefixes()
    asked = [Asked(model.prompt(QUESTION), steps, depth) for steps, depth in ((3, 0.5), (0, 0.2))]
    base = Prompt(asked[0].prompt, {"max_tokens": 4})
    first, other, second = engine.run_alone([asked[0].as_prompt(), base, asked[1].as_prompt()])
    assert (first.num_cached_tokens, other.num_cached_tokens) == (0, 0)
    assert second.num_cached_tokens == num_filled(len(asked[0].prompt)) > 0
    follow(model, asked[0], first.only)
    follow(model, asked[1], second.only)


@pytest.mark.parametrize(("steps", "depth"), [(3, 0.5), (0, 0.5), (0, None)])
def test_what_they_wrote_is_shared_with_nobody(
    engines: Engines, model: Shortcut, steps: int, depth: float | None
) -> None:
    engine = engines.start(model.path, max_logprobs=-1)
    engine.forget_prefixes()
    asked = Asked(model.prompt(QUESTION), steps, depth, num_tokens=80)
    (run,) = engine.run([asked.as_prompt()]).results
    reading = Asked(asked.prompt + run.only.token_ids, 0, None)
    (again,) = engine.run([reading.as_prompt()]).results
    assert again.num_cached_tokens == num_filled(len(asked.prompt))
    follow(model, reading, again.only)
