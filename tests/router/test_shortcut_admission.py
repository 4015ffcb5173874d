"""Admission of requests with shortcuts: what their tokens and limits must allow, and the stamp."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.admitting import SOFT, Sampling, request, stamp_of
from sottovoce_router.admission import admit, block_keys, is_student, latent_of
from sottovoce_router.errors import RoutingError
from sottovoce_router.markers import MarkerIds, placeholders_in
from sottovoce_router.shortcuts.manifest import Manifest

START, END = 3, 4
MARKERS = MarkerIds((START,), (END,), (END,))
MANIFEST = Manifest(Path(), 2, 0.6, (0, 1, 2), True, True, 3, 32, 8, 8, 1e-6)
SHORT = dataclasses.replace(SOFT, shortcuts=MANIFEST, placeholders=(0, 1), markers=MARKERS)


def admitted(shortcuts: Any, last: int = START, **sampling: Any) -> Sampling:
    params = Sampling({"shortcuts": shortcuts}, **sampling)
    admit(request(params, last=last), SHORT)
    return params


def refusal_of(shortcuts: Any, **changes: Any) -> RoutingError:
    with pytest.raises(RoutingError) as caught:
        admitted(shortcuts, **changes)
    return caught.value


def test_the_stamp_says_what_is_done() -> None:
    sampling = admitted({"depth": None, "steps": 3})
    assert stamp_of(sampling)["params"]["shortcuts"] == {"depth": None, "steps": 3}
    assert latent_of(sampling) == {"steps": 3, "placeholder": 0}
    assert (is_student(sampling), sampling.logprobs) == (True, 0)
    assert is_student(Sampling({})) is is_student(None) is False
    assert latent_of(Sampling({})) == latent_of(None) == {"steps": 0, "placeholder": 0}


def test_a_placeholder_does_not_stop_the_request() -> None:
    sampling = admitted({}, all_stop_token_ids={0, 9})
    assert latent_of(sampling)["placeholder"] == 1
    error = refusal_of({}, all_stop_token_ids={0, 1})
    assert (error.param, error.value) == ("shortcuts.steps", 2)
    assert "fewer stop_token_ids" in error.remedy
    admitted({"steps": 0}, all_stop_token_ids={0, 1})


@pytest.mark.parametrize(
    ("shortcuts", "changes", "param", "remedy"),
    [
        ({"steps": 2}, {"last": 7}, "shortcuts.steps", "ends inside thinking"),
        ({"steps": 2}, {"last": END}, "shortcuts.steps", "ends inside thinking"),
        ({"steps": 2}, {"max_tokens": 3}, "shortcuts.steps", "raise max_tokens"),
        ({"steps": 0}, {"prompt_logprobs": 1}, "prompt_logprobs", "leave out one of them"),
        ({"steps": 1}, {"repetition_detection": 1}, "repetition_detection", "leave it out"),
    ],
)
def test_refusals(shortcuts: Any, changes: dict[str, Any], param: str, remedy: str) -> None:
    error = refusal_of(shortcuts, **changes)
    assert error.param == param
    assert remedy in error.remedy


def test_the_least_that_is_room_enough() -> None:
    admitted({"steps": 2}, max_tokens=4)
    admitted({"steps": 0}, max_tokens=1, last=7)


def test_steps_fit_the_context() -> None:
    short = dataclasses.replace(SHORT, max_model_len=23)
    sampling = Sampling({"shortcuts": {"steps": 2}})
    with pytest.raises(RoutingError, match="do not fit the 3 tokens"):
        admit(request(sampling, last=START), short)


def keys(end: int, name: str = "a", **extra: Any) -> Any:
    sampling = Sampling(extra)
    admit(request(sampling, last=START), SHORT)
    asked = SimpleNamespace(sampling_params=sampling, num_prompt_tokens=20, request_id=name)
    return block_keys(asked, end)


def test_blocks_are_shared_with_who_they_suit() -> None:
    depth_only = {"shortcuts": {"steps": 0}}
    assert keys(20, shortcuts={}) == keys(20, "b", **depth_only) != ()
    assert keys(20) == keys(20, reasoning_mode="latent") == keys(21) == ()
    late = [keys(21, name, **asked) for name in "ab" for asked in (depth_only, {"shortcuts": {}})]
    assert late[0] == late[1] != late[2] == late[3]
    assert keys(20, shortcuts={}) not in late


class Tokenizer:
    """What is read of a tokenizer."""

    pad_token_id = 5
    all_special_ids = (0, 5, START)
    added_tokens_decoder = {  # noqa: RUF012 (never changed)
        0: SimpleNamespace(special=True),
        2: SimpleNamespace(special=True),
        6: SimpleNamespace(special=False),
    }


def test_placeholders_are_special_and_no_markers() -> None:
    assert placeholders_in(Tokenizer(), MARKERS) == (5, 0, 2)
