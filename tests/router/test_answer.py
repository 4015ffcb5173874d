"""Tokens that thinking leaves for the answer where a request does not say: the engine's own number."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from admitting import SOFT, Sampling, stamp_of

from sottovoce_router.additional import answer_tokens
from sottovoce_router.admission import admit
from sottovoce_router.answer import close_at, lower_budget
from sottovoce_router.errors import PluginError
from sottovoce_router.markers import MarkerIds
from sottovoce_router.params import STAMP

START, END = 1, 3
MARKERS = MarkerIds(start=(START,), end=(2, END), natural_end=(END,))
KEEPS = dataclasses.replace(
    SOFT, markers=MARKERS, num_end_tokens=2, min_answer_tokens=16, max_model_len=300
)
OPEN = [7, START, 8, 8, 8]  # three tokens are thought already
SHUT = [7, 7, 7]


def admitted(
    extra: dict[str, Any], prompt: list[int] = OPEN, capabilities: Any = KEEPS, **sampling: Any
) -> Sampling:
    params = Sampling(extra, **{"max_tokens": 100, **sampling})
    admit(
        SimpleNamespace(sampling_params=params, prompt_token_ids=prompt, prompt_embeds=None),
        capabilities,
    )
    return params


def kept_of(sampling: Sampling) -> Any:
    return stamp_of(sampling)["params"]["min_answer_tokens"]


@pytest.mark.parametrize("extra", [{}, {"reasoning_mode": "explicit"}])
def test_without_a_policy_the_thinking_budget_keeps_them(extra: dict[str, Any]) -> None:
    sampling = admitted(extra)
    # Generated positions 0 to 81 think, 82 and 83 end it; vLLM counts what the prompt thought.
    assert sampling.thinking_token_budget == 100 - 16 - 2 + 3
    assert STAMP not in (sampling.extra_args or {})
    # A start marker is still to come, and takes a token.
    assert admitted(extra, SHUT).thinking_token_budget == 100 - 16 - 2 - 1


@pytest.mark.parametrize("mode", ["latent", "routed"])
def test_a_policy_keeps_them_itself(mode: str) -> None:
    sampling = admitted({"reasoning_mode": mode})
    assert kept_of(sampling) == 16
    assert sampling.thinking_token_budget is None


def test_a_traced_request_has_a_policy() -> None:
    assert kept_of(admitted({"include_reasoning_trace": True})) == 16


@pytest.mark.parametrize(("max_tokens", "kept"), [(4, 1), (7, 1), (20, 5), (64, 16), (90, 16)])
def test_it_is_a_quarter_of_what_may_be_generated_at_most(max_tokens: int, kept: int) -> None:
    assert kept_of(admitted({"reasoning_mode": "latent"}, max_tokens=max_tokens)) == kept
    budget = admitted({}, max_tokens=max_tokens).thinking_token_budget
    assert budget == max_tokens - kept - 2 + 3


@pytest.mark.parametrize("max_tokens", [1, 2, 3])
def test_who_cannot_think_is_left_alone(max_tokens: int) -> None:
    """Beam search asks for a token at a time."""
    assert admitted({}, max_tokens=max_tokens).thinking_token_budget is None
    assert kept_of(admitted({"reasoning_mode": "latent"}, max_tokens=max_tokens)) == 0


def test_the_context_may_end_before_max_tokens() -> None:
    long = [7] * 255 + OPEN  # leaves 40
    assert admitted({}, long, max_tokens=100).thinking_token_budget == 40 - 10 - 2 + 3
    assert admitted({}, long, max_tokens=None).thinking_token_budget == 40 - 10 - 2 + 3


@pytest.mark.parametrize(("given", "found"), [(5, 5), (10**6, 85), (-1, 85), (None, 85)])
def test_a_smaller_budget_stays(given: int | None, found: int) -> None:
    assert admitted({}, thinking_token_budget=given).thinking_token_budget == found


@pytest.mark.parametrize("asked", [0, 40])
def test_what_a_request_says_itself_wins(asked: int) -> None:
    routing = {"routing": {"min_answer_tokens": asked}}
    assert kept_of(admitted({"reasoning_mode": "latent", **routing})) == asked
    explicit = admitted(routing)
    if asked:
        assert kept_of(explicit) == asked
    assert explicit.thinking_token_budget is None


@pytest.mark.parametrize(
    "changes",
    [{"min_answer_tokens": 0}, {"markers": None}, {"grammar_waits": False}],
    ids=str,
)
def test_engines_and_requests_that_keep_none(changes: dict[str, Any]) -> None:
    engine = dataclasses.replace(KEEPS, **changes)
    assert admitted({}, capabilities=engine, structured_outputs="g").thinking_token_budget is None
    told = admitted({}, trace_decode_token_ids=[5, 6])
    assert told.thinking_token_budget is None


def test_a_worker_without_room_for_a_policy_sets_the_budget() -> None:
    sampling = Sampling(max_tokens=50)
    lower_budget(sampling, close_at(50, 16, 2), OPEN, MARKERS)
    assert sampling.thinking_token_budget == 32 + 3


@pytest.mark.parametrize("wrong", [-1, 1.5, "x"])
def test_a_wrong_number_ends_the_start(wrong: Any) -> None:
    assert answer_tokens({"sottovoce": {"min_answer_tokens": 3}}) == 3
    assert answer_tokens({}) == 0
    with pytest.raises(PluginError, match=r"min_answer_tokens: .* must be a number, 0 or more"):
        answer_tokens({"sottovoce": {"min_answer_tokens": wrong}})
