"""A client's request as vLLM gets it, and what an engine refuses."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from server.stubs import engine_config
from sottovoce_router import Capabilities, InvalidValueError, UnsupportedModeError, parse
from sottovoce_router.latent.manifest import Manifest
from sottovoce_router.latent.params import LatentParams
from sottovoce_server.translate import Translation, endpoint_of, leaves_mode, translate

ALL = Capabilities.from_config(engine_config())
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SAMPLING = {"temperature": 0.6, "top_p": 0.95, "top_k": 30, "min_p": 0.001}


def chat(default_mode: str = "explicit", **fields: Any) -> Translation:
    return translate({**CHAT, **fields}, "chat", ALL, {}, default_mode)


def test_ordinary_request_passes_untouched() -> None:
    translation = chat(temperature=1.0, vllm_xargs={"other": 1}, unknown=[2])
    assert translation.body == {
        **CHAT, "temperature": 1.0, "vllm_xargs": {"other": 1}, "unknown": [2],
    }  # fmt: skip
    assert not translation.params.is_soft_capable


def test_request_is_not_changed_in_place() -> None:
    request = {**CHAT, "reasoning_mode": "latent", "vllm_xargs": {"other": 1}}
    before = json.loads(json.dumps(request))
    translate(request, "chat", ALL, {})
    assert request == before


def test_our_fields_move_into_vllm_xargs() -> None:
    routing = {"threshold": 0.4}
    translation = chat(
        reasoning_mode="routed", routing=routing, include_reasoning_trace=True, vllm_xargs={"k": 2}
    )
    assert not {"reasoning_mode", "routing", "include_reasoning_trace"} & translation.body.keys()
    xargs = translation.body["vllm_xargs"]
    assert xargs.keys() == {"k", "reasoning_mode", "routing", "include_reasoning_trace"}
    assert (xargs["k"], xargs["include_reasoning_trace"]) == (2, 1)
    assert parse(xargs) == translation.params
    assert translation.params.threshold == 0.4


def test_an_explicit_request_may_keep_tokens_for_the_answer() -> None:
    translation = chat(routing={"min_answer_tokens": 7})
    assert translation.params.min_answer_tokens == 7
    assert parse(translation.body["vllm_xargs"]) == translation.params


def test_fields_override_vllm_xargs() -> None:
    xargs = {"reasoning_mode": "latent", "include_reasoning_trace": 1}
    assert chat(vllm_xargs=xargs).params.mode == "latent"
    explicit = chat(vllm_xargs=xargs, reasoning_mode="explicit", include_reasoning_trace=False)
    assert explicit.params.policy is None
    assert "vllm_xargs" not in explicit.body


def test_null_is_as_good_as_absent() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        [
            "reasoning_mode",
            "routing",
            "shortcuts",
            "latent",
            "include_reasoning_trace",
            "vllm_xargs",
        ]
    )
    assert chat(**nothing).body == CHAT


@pytest.mark.parametrize("fields", [{"latent": {"steps": 2}}, {"reasoning_mode": "latent"}])
def test_own_latent_steps_are_handed_on(fields: dict[str, Any]) -> None:
    manifest = Manifest("codi", 6, None, 12, 32, "<bot>", "<eot>")
    trained = dataclasses.replace(ALL, latent=manifest)
    for default in ("explicit", "latent"):
        found = translate(
            {**CHAT, **fields, "include_reasoning_trace": True}, "chat", trained, {}, default
        )
        xargs = found.body["vllm_xargs"]
        assert xargs.keys() == {"reasoning_mode", "latent", "include_reasoning_trace"}
        assert parse(xargs, latent=manifest) == found.params
        assert found.params.latent == LatentParams("codi", 2 if "latent" in fields else 6)
        assert not SAMPLING.keys() & found.body.keys()
    assert not leaves_mode({**CHAT, **fields})


@pytest.mark.parametrize("mode", ["latent", "routed"])
def test_soft_modes_have_sampling_defaults(mode: str) -> None:
    body = chat(reasoning_mode=mode).body
    assert {key: body[key] for key in SAMPLING} == SAMPLING
    assert chat(reasoning_mode=mode, temperature=0, top_k=None).body["temperature"] == 0
    assert chat(reasoning_mode=mode, top_k=None).body["top_k"] == 30


def test_sampling_defaults_yield_to_the_models() -> None:
    server = {"temperature": 0.9, "top_k": 20}
    body = translate({**CHAT, "reasoning_mode": "latent"}, "chat", ALL, server).body
    assert not server.keys() & body.keys()
    assert body["top_p"] == 0.95


def test_messages_have_no_min_p() -> None:
    body = translate({**CHAT, "reasoning_mode": "latent"}, "messages", ALL, {}).body
    assert "min_p" not in body
    assert body["top_k"] == 30


def test_explicit_has_no_sampling_defaults() -> None:
    assert not SAMPLING.keys() & chat(include_reasoning_trace=True).body.keys()


def test_default_mode() -> None:
    assert chat("routed").params.mode == "routed"
    assert chat("routed", reasoning_mode="explicit").params.mode == "explicit"
    assert chat("routed", reasoning_mode=None).params.mode == "routed"


def test_policy_of_another_mode() -> None:
    with pytest.raises(InvalidValueError, match=r"routing\.policy: 'soft' is not for routed"):
        chat(reasoning_mode="routed", routing={"policy": "soft"})


@pytest.mark.parametrize("mode", ["explicit", "latent", "routed"])
def test_nobody_chooses_the_policy_of_traces(mode: str) -> None:
    with pytest.raises(InvalidValueError, match=r"routing\.policy: 'observe' must be one of"):
        chat(reasoning_mode=mode, routing={"policy": "observe"})


def test_beam_search_cannot_be_routed() -> None:
    with pytest.raises(InvalidValueError, match=r"use_beam_search: True .* drop one"):
        chat("latent", use_beam_search=True)
    with pytest.raises(InvalidValueError, match="a reasoning trace"):
        chat(use_beam_search=True, include_reasoning_trace=True)
    assert chat(use_beam_search=True).searches_beams


@pytest.mark.parametrize("xargs", [5, "reasoning_mode", ["reasoning_mode"]])
def test_vllm_xargs_that_is_no_object(xargs: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"vllm_xargs: .* must be an object"):
        chat(reasoning_mode="routed", vllm_xargs=xargs)


@pytest.mark.parametrize(
    ("endpoint", "fields", "prompts", "choices"),
    [
        ("chat", {}, 1, 1),
        ("chat", {"n": 3}, 1, 3),
        ("chat", {"n": "three"}, 1, 1),
        ("chat", {"n": float("inf")}, 1, 1),
        ("completions", {"prompt": "a"}, 1, 1),
        ("completions", {"prompt": ["a", "b"], "n": 2}, 2, 4),
        ("completions", {"prompt": [1, 2, 3]}, 1, 1),
        ("completions", {"prompt": [[1, 2], [3]]}, 2, 2),
        ("completions", {"prompt": []}, 1, 1),
        ("completions", {"prompt": None}, 1, 1),
        ("batch", {"messages": [CHAT["messages"]] * 3}, 3, 3),
    ],
)
def test_number_of_choices(
    endpoint: str, fields: dict[str, Any], prompts: int, choices: int
) -> None:
    translation = translate({**CHAT, **fields}, endpoint, ALL, {})
    assert (translation.num_prompts, translation.num_choices) == (prompts, choices)


def test_usage_in_a_stream() -> None:
    assert chat(stream_options={"include_usage": True}).includes_usage
    for options in (None, {}, {"include_usage": False}, "yes"):
        assert not chat(stream_options=options).includes_usage


def test_endpoints() -> None:
    assert endpoint_of("/v1/messages", {}) == "messages"
    assert endpoint_of("/invocations", {"messages": []}) == "chat"
    assert endpoint_of("/invocations", {"prompt": ""}) == "completions"
    assert endpoint_of("/invocations", {"input": ""}) is None
    assert endpoint_of("/tokenize", {"prompt": ""}) is None


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"reasoning_config": None}, "--reasoning-parser"),
    ({"use_v2_model_runner": False}, "Model Runner V2"),
    ({"parallel__pipeline_parallel_size": 2}, "pipeline parallelism; use --tensor-parallel-size"),
    ({"speculative_config": object()}, "speculative decoding; drop --speculative-config"),
    ({"parallel__decode_context_parallel_size": 2}, "context parallelism"),
    ({"lora_config": object()}, "drop --enable-lora"),
    ({"watermark_config": object()}, "drop --watermark-config"),
    ({"additional_config": {"sottovoce": {"soft_modes": False}}}, "additional_config"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSALS, ids=lambda part: str(part)[:40])
@pytest.mark.parametrize("mode", ["latent", "routed"])
def test_engine_that_serves_explicit_only(changes: dict[str, Any], reason: str, mode: str) -> None:
    capabilities = Capabilities.from_config(engine_config(**changes))
    assert capabilities.modes == ["explicit"]
    for fields in ({"reasoning_mode": mode}, {"vllm_xargs": {"reasoning_mode": mode}}):
        with pytest.raises(UnsupportedModeError, match=reason) as raised:
            translate({**CHAT, **fields}, "chat", capabilities, {})
        assert (raised.value.param, raised.value.value) == ("reasoning_mode", mode)
    assert translate(CHAT, "chat", capabilities, {}).params.mode == "explicit"


def test_tensor_parallelism_is_served() -> None:
    capabilities = Capabilities.from_config(engine_config(parallel__tensor_parallel_size=8))
    assert capabilities.modes == ["explicit", "latent", "routed"]


@pytest.mark.parametrize(
    ("fields", "leaves"),
    [
        ({}, True),
        ({"reasoning_mode": None, "routing": None, "vllm_xargs": None}, True),
        ({"include_reasoning_trace": True, "vllm_xargs": {"k": 1}}, True),
        ({"reasoning_mode": "explicit"}, False),
        ({"vllm_xargs": {"reasoning_mode": "latent"}}, False),
        ({"routing": {"top_n": 3}}, False),
        ({"vllm_xargs": {"routing": "{}"}}, False),
        ({"use_beam_search": True}, False),
    ],
    ids=str,
)
def test_who_leaves_the_mode_to_the_server(fields: dict[str, Any], leaves: bool) -> None:
    """And is served alike in both arms: routing fields and beam search are of one kind of mode."""
    assert leaves_mode({**CHAT, **fields}) == leaves


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.3}, {"include_reasoning_trace": True}])
def test_arms_differ_in_the_mode_alone(fields: dict[str, Any]) -> None:
    """Temperature and filters change lengths too, and are the same in both."""
    kept = {key: value for key, value in fields.items() if key == "temperature"}
    arms = {
        arm: translate({**CHAT, **fields}, "chat", ALL, {}, "latent", arm=arm)
        for arm in ("control", "treatment")
    }
    assert {arm: found.params.mode for arm, found in arms.items()} == {
        "control": "explicit", "treatment": "latent",
    }  # fmt: skip
    bodies = [{k: v for k, v in f.body.items() if k != "vllm_xargs"} for f in arms.values()]
    assert bodies[0] == bodies[1]
    assert bodies[0].items() >= {**SAMPLING, **kept}.items()
    assert [found.arm for found in arms.values()] == list(arms)
