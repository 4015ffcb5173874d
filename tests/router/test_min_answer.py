"""`min_answer_tokens`: read in every mode, refused where it cannot be kept."""

from __future__ import annotations

import dataclasses

import pytest
from admitting import PLAIN, SOFT, admitted, stamp_of

from sottovoce_router import (
    DEFAULT_POLICY,
    MODES,
    InvalidValueError,
    UnsupportedModeError,
    parse,
)

KEPT = {"min_answer_tokens": 20}


@pytest.mark.parametrize("mode", ["explicit", "latent", "routed"])
def test_tokens_kept_for_the_answer_must_fit(mode: str) -> None:
    body = {"reasoning_mode": mode, "routing": KEPT}
    three = dataclasses.replace(SOFT, num_end_tokens=3)
    params = stamp_of(admitted(body, three, max_tokens=23))["params"]
    assert params["min_answer_tokens"] == 20
    with pytest.raises(InvalidValueError) as caught:
        admitted(body, three, max_tokens=22)
    assert (caught.value.param, caught.value.value) == ("routing.min_answer_tokens", 20)
    assert caught.value.remedy == (
        "and the 3 that end thinking are more than max_tokens, 22; lower it or raise max_tokens"
    )


def test_tokens_kept_are_counted_from_where_the_context_ends() -> None:
    small = dataclasses.replace(SOFT, max_model_len=60)
    body = {"reasoning_mode": "latent", "routing": KEPT}
    assert admitted(body, small, max_tokens=None).max_tokens == 40
    assert admitted({"reasoning_mode": "latent"}, small, max_tokens=None).max_tokens == 100


def test_an_engine_without_markers_keeps_nothing() -> None:
    with pytest.raises(UnsupportedModeError, match="min_answer_tokens: 20 needs markers") as caught:
        admitted({"routing": KEPT}, PLAIN)
    assert caught.value.param == "routing.min_answer_tokens"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_may_keep_tokens_for_the_answer(mode: str) -> None:
    params = parse({"reasoning_mode": mode, "routing": {"min_answer_tokens": 20}})
    assert params.min_answer_tokens == 20
    assert parse({"reasoning_mode": mode, "routing": params.as_routing()}) == params
    assert params.policy == {"explicit": "observe", **DEFAULT_POLICY}[mode]
    off = parse({"reasoning_mode": mode, "routing": {"min_answer_tokens": 0}})
    assert off == dataclasses.replace(parse({"reasoning_mode": mode}), min_answer_tokens=0)
    assert parse({"reasoning_mode": mode, "routing": off.as_routing()}) == off
