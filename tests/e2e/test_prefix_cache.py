"""Prompts are shared between requests; blocks that hold soft inputs never are."""

from __future__ import annotations

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Engine, Engines, Prompt
from e2e.loop import Model, Request

BLOCK_SIZE = 32
QUESTION = (
    "List three prime numbers larger than 100, add them up, and tell me whether that is prime."
)
NUM_STEPS = 80


@pytest.fixture
def engine(engines: Engines, llama: Model) -> Engine:
    engine = engines.start(llama.path)
    engine.forget_prefixes()
    return engine


@pytest.fixture
def soft(llama: Model) -> Request:
    """A request whose prompt fills two blocks and ends inside the third."""
    request = Request(llama.prompt(QUESTION), "soft", seed=1, max_tokens=NUM_STEPS)
    assert 0 < len(request.prompt) % BLOCK_SIZE < BLOCK_SIZE - 1
    assert len(request.prompt) > 2 * BLOCK_SIZE
    return request


def num_prompt_tokens_in_blocks(request: Request) -> int:
    """Tokens of the blocks that the prompt fills."""
    return len(request.prompt) // BLOCK_SIZE * BLOCK_SIZE


def repeating(request: Request, tokens: tuple[int, ...], policy: str | None) -> Prompt:
    """A request whose prompt is another's prompt and recorded text."""
    again = Request(request.prompt + tokens, policy, seed=2, max_tokens=32)
    return prompt_of(again)


def test_soft_requests_share_their_prompt(
    engine: Engine, tally: Tally, llama: Model, soft: Request
) -> None:
    first, second = (engine.run([prompt_of(soft)]).results[0] for _ in range(2))
    assert first.num_cached_tokens == 0
    assert second.num_cached_tokens == num_prompt_tokens_in_blocks(soft)
    tally.compare(llama, soft, first.only.steps, second.only.steps)


@pytest.mark.parametrize("policy", ["soft", "thinkrouter", None])
def test_a_prompt_that_repeats_a_soft_run_shares_its_prompt_only(
    engine: Engine, soft: Request, policy: str | None
) -> None:
    (run,) = engine.run([prompt_of(soft)]).results
    assert {step.route for step in run.only.steps} == {"soft"}
    repeat = repeating(soft, run.only.token_ids, policy)
    (warm,) = engine.run([repeat]).results
    assert warm.num_cached_tokens == num_prompt_tokens_in_blocks(soft)
    engine.forget_prefixes()
    (cold,) = engine.run([repeat]).results
    assert cold.num_cached_tokens == 0
    assert warm.only == cold.only


def test_a_prompt_that_repeats_an_explicit_run_shares_all_of_it(
    engine: Engine, soft: Request
) -> None:
    explicit = Request(soft.prompt, None, seed=3, max_tokens=NUM_STEPS)
    for trace in (False, True):
        engine.forget_prefixes()
        (run,) = engine.run([prompt_of(explicit, trace=trace)]).results
        # The last token was sampled and never fed.
        num_fed = len(soft.prompt) + NUM_STEPS - 1
        (warm,) = engine.run([repeating(soft, run.only.token_ids, None)]).results
        assert warm.num_cached_tokens == num_fed // BLOCK_SIZE * BLOCK_SIZE
