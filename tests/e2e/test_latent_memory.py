"""Latent steps outlive preemption, and their cache blocks are shared with nobody."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.engine import Engines, Prompt
from e2e.latent_models import Latent, llama
from e2e.latent_runs import Asked, follow
from e2e.test_latent import QUESTIONS
from e2e.test_shortcuts_memory import BLOCK_SIZE, CRAMPED, num_filled


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Latent:
    return llama(tmp_path_factory.mktemp("latent"), "atp")


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
    engines: Engines, model: Latent, options: dict[str, Any]
) -> None:
    prompts = [model.prompt(question) for question in QUESTIONS[:2]]
    asked = [
        Asked(prompts[seed % 2], None if seed % 3 else 1, seed, num_tokens=96) for seed in range(10)
    ]
    batch = engines.start(model.path, **CRAMPED, **options).run([a.as_prompt() for a in asked])
    assert batch.num_preemptions >= 4
    for request, result in zip(asked, batch.results, strict=True):
        follow(model, request, result.only)


def test_prompts_are_shared_and_latents_are_not(engines: Engines, model: Latent) -> None:
    engine = engines.start(model.path, max_logprobs=-1)
    engine.forget_prefixes()
    asked = Asked(model.prompt(QUESTIONS[0] * 3), num_tokens=80)
    base = Prompt(asked.prompt, {"max_tokens": 4})
    first, other = engine.run_alone([asked.as_prompt(), base])
    assert other.num_cached_tokens == num_filled(len(asked.prompt)) > 0
    follow(model, asked, first.only)
    whole = (*asked.prompt, *first.only.token_ids)
    assert num_filled(len(whole) - 1) >= num_filled(len(asked.prompt)) + BLOCK_SIZE
    (after,) = engine.run_alone([Prompt(whole, {"max_tokens": 1})])
    assert after.num_cached_tokens == num_filled(len(asked.prompt))
