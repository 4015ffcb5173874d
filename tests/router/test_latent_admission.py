"""Admission of requests for latent steps: what their tokens and limits must allow, and the stamp."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from router.admitting import SOFT, Sampling, engine, request, stamp_of
from sottovoce_router.admission import admit, block_keys, is_student, latent_of
from sottovoce_router.capabilities import Capabilities
from sottovoce_router.errors import RoutingError
from sottovoce_router.latent.manifest import Manifest
from sottovoce_router.markers import MarkerIds

START, END = 3, 4
MARKERS = MarkerIds((START,), (END,), (END,))
MANIFEST = Manifest("codi", 6, None, 12, 32, "<bot>", "<eot>")
TRAINED = dataclasses.replace(SOFT, latent=MANIFEST, placeholders=(0, 1), markers=MARKERS)


def admitted(last: int = START, *, prompt: Any = None, **fields: Any) -> Sampling:
    extra = {key: fields.pop(key) for key in ("latent", "reasoning_mode") if key in fields}
    params = Sampling(extra or {"reasoning_mode": "latent"}, **fields)
    asked = request(params, last=last)
    asked.prompt_token_ids = prompt or asked.prompt_token_ids
    admit(asked, TRAINED)
    return params


def test_the_stamp_says_what_is_done() -> None:
    sampling = admitted()
    assert latent_of(sampling) == {"steps": 6, "placeholder": 0}
    assert stamp_of(sampling)["params"]["latent"] == {"method": "codi", "steps": 6}
    assert (is_student(sampling), sampling.logprobs) == (False, 0)
    assert latent_of(admitted(latent={"steps": 2}))["steps"] == 2
    assert latent_of(admitted(reasoning_mode="explicit"))["steps"] == 0


def test_a_placeholder_does_not_stop_the_request() -> None:
    assert latent_of(admitted(all_stop_token_ids={0, 9}))["placeholder"] == 1


@pytest.mark.parametrize(("budget", "steps"), [(None, 6), (7, 6), (6, 6), (2, 2), (0, 0), (-1, 6)])
def test_a_thinking_budget_bounds_the_steps(budget: int | None, steps: int) -> None:
    assert latent_of(admitted(thinking_token_budget=budget))["steps"] == steps


def test_what_a_budget_takes_away_needs_no_room() -> None:
    assert latent_of(admitted(thinking_token_budget=0, max_tokens=1))["steps"] == 0
    assert latent_of(admitted(thinking_token_budget=0, all_stop_token_ids={0, 1}))["steps"] == 0


def test_a_budget_counts_what_the_prompt_has_thought() -> None:
    sampling = admitted(prompt=[7, START, 7, 7], thinking_token_budget=5)
    assert latent_of(sampling)["steps"] == 3
    assert latent_of(admitted(prompt=[START, 7, 7], thinking_token_budget=1))["steps"] == 0


@pytest.mark.parametrize(
    ("fields", "param", "remedy"),
    [
        ({"last": 7}, "latent.steps", "ends inside thinking"),
        ({"last": END}, "latent.steps", "ends inside thinking"),
        ({"max_tokens": 7}, "latent.steps", "raise max_tokens"),
        ({"repetition_detection": 1}, "repetition_detection", "leave it out"),
        ({"all_stop_token_ids": {0, 1}}, "latent.steps", "fewer stop_token_ids"),
        ({"latent": {"steps": 13}}, "latent.steps", "from 1 to 12"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str, remedy: str) -> None:
    with pytest.raises(RoutingError) as caught:
        admitted(**fields)
    assert caught.value.param == param
    assert remedy in caught.value.remedy


def test_a_grammar_needs_a_parser_to_wait_for_the_answer() -> None:
    assert latent_of(admitted(structured_outputs="a grammar"))["steps"] == 6
    bare = dataclasses.replace(TRAINED, grammar_waits=False)
    sampling = Sampling({"latent": {}}, structured_outputs="a grammar")
    with pytest.raises(
        RoutingError, match=r"structured_outputs: .*--reasoning-parser and .* leave"
    ):
        admit(request(sampling, last=START), bare)


@pytest.mark.parametrize(
    ("parser", "is_early", "waits"), [("x", False, True), ("x", True, False), ("", False, False)]
)
def test_a_grammar_waits_behind_a_parser(parser: str, is_early: bool, waits: bool) -> None:
    outputs = SimpleNamespace(reasoning_parser=parser, enable_in_reasoning=is_early)
    found = Capabilities.from_config(engine(structured_outputs_config=outputs))
    assert found.grammar_waits is waits


def test_the_least_that_is_room_enough() -> None:
    assert latent_of(admitted(max_tokens=8, prompt_logprobs=1))["steps"] == 6


def keys(end: int, name: str = "a", **extra: Any) -> Any:
    sampling = Sampling(extra)
    admit(request(sampling, last=START), TRAINED)
    asked = SimpleNamespace(sampling_params=sampling, num_prompt_tokens=20, request_id=name)
    return block_keys(asked, end)


def test_prompts_are_shared_and_latents_are_not() -> None:
    assert keys(20, latent={}) == keys(20) == keys(21) == ()
    assert keys(21, latent={}) != keys(21, "b", latent={}) != ()
