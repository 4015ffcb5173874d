"""`admit` and `Capabilities`: what is stamped on a request, and what an engine refuses."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from admitting import PLAIN, SOFT, Sampling, admitted, engine, request, stamp_of

from sottovoce_router import (
    Capabilities,
    InvalidValueError,
    RoutingError,
    RoutingParams,
    UnsupportedModeError,
    parse,
)
from sottovoce_router.admission import admit, block_keys
from sottovoce_router.params import BUDGET_KEY, STAMP


def test_the_stamp_replaces_the_keys() -> None:
    body = {"reasoning_mode": "routed", "routing": {"top_n": 3}, "include_reasoning_trace": True}
    sampling = admitted({**body, "kv_transfer_params": {"a": 1}})
    assert sampling.extra_args is not None
    assert sampling.extra_args.keys() == {STAMP, "kv_transfer_params"}
    found = RoutingParams.from_dict(stamp_of(sampling)["params"])
    assert found == dataclasses.replace(parse(body), min_answer_tokens=0)


def test_a_stamp_survives_plain_serialisation() -> None:
    import json

    stamp = stamp_of(admitted({"reasoning_mode": "latent"}))
    assert json.loads(json.dumps(stamp)) == stamp


@pytest.mark.parametrize(
    ("asked", "hides", "opened"), [(None, True, 0), (0, False, None), (5, False, None)]
)
def test_logprobs_that_nobody_asked_for_are_hidden(
    asked: int | None, hides: bool, opened: int | None
) -> None:
    sampling = admitted({"reasoning_mode": "latent"}, num_logprobs=asked)
    assert stamp_of(sampling)["hides_logprobs"] is hides
    assert sampling.logprobs == opened, "set only where it was unset"


@pytest.mark.parametrize(
    "extra", [{}, {"reasoning_mode": "explicit"}, {"reasoning_mode": "latent"}]
)
def test_a_clients_own_stamp_is_dropped(extra: dict[str, Any]) -> None:
    forged = {"params": RoutingParams(mode="latent", policy="soft").as_dict()}
    sampling = admitted({**extra, STAMP: forged})
    assert (sampling.extra_args or {}).get(STAMP) != forged
    assert (STAMP in (sampling.extra_args or {})) == (extra.get("reasoning_mode") == "latent")


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}, {"reasoning_mode": "explicit"}])
@pytest.mark.parametrize("capabilities", [SOFT, PLAIN], ids=["soft", "plain"])
def test_ordinary_requests_are_untouched(
    extra: dict[str, Any] | None, capabilities: Capabilities
) -> None:
    sampling = admitted(extra, capabilities, max_tokens=10**9, all_stop_token_ids=set(range(99)))
    assert sampling.extra_args == extra
    assert sampling.logprobs is None


def test_a_pooling_request_is_untouched() -> None:
    admit(request(None), SOFT)


def test_the_callers_extra_args_are_not_edited() -> None:
    extra = {"reasoning_mode": "latent", STAMP: "forged"}
    admitted(extra)
    assert extra == {"reasoning_mode": "latent", STAMP: "forged"}


def test_a_trace_needs_no_soft_modes() -> None:
    assert stamp_of(admitted({"include_reasoning_trace": True}))["params"]["policy"] == "observe"
    assert STAMP not in (admitted({"include_reasoning_trace": True}, PLAIN).extra_args or {})


@pytest.mark.parametrize(
    ("extra", "soft"),
    [
        (None, False),
        ({}, False),
        ({"include_reasoning_trace": True}, False),
        ({"reasoning_mode": "latent"}, True),
        ({"reasoning_mode": "routed"}, True),
    ],
)
def test_soft_blocks_are_their_requests_own(extra: dict[str, Any] | None, soft: bool) -> None:
    """Those that reach past the prompt."""
    sampling = admitted(extra)
    asked = SimpleNamespace(sampling_params=sampling, num_prompt_tokens=20, request_id="a")
    assert block_keys(asked, 20) == ()
    assert (block_keys(asked, 21) == (("sottovoce", "a"),)) is soft


def test_a_pooling_requests_blocks_are_everyones() -> None:
    asked = SimpleNamespace(sampling_params=None, num_prompt_tokens=20, request_id="a")
    assert block_keys(asked, 21) == ()


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"reasoning_config": None}, "start the server with --reasoning-parser"),
        ({"reasoning_config": SimpleNamespace(enabled=False)}, "--reasoning-start"),
        ({"use_v2_model_runner": False}, "unset VLLM_USE_V2_MODEL_RUNNER=0"),
        ({"pipeline_parallel_size": 2}, "use --tensor-parallel-size instead"),
        ({"speculative_config": object()}, "drop --speculative-config"),
        ({"policy": "priority"}, "drop --scheduling-policy priority"),
        ({"decode_context_parallel_size": 2}, "use --tensor-parallel-size instead"),
        ({"prefill_context_parallel_size": 2}, "use --tensor-parallel-size instead"),
        ({"lora_config": object()}, "drop --enable-lora"),
        ({"kv_transfer_config": object()}, "drop --kv-transfer-config"),
        ({"enable_batch_sharded_sampling": True}, "drop --enable-batch-sharded-sampling"),
        ({"watermark_config": object()}, "drop --watermark-config"),
        ({"additional_config": {"sottovoce": {"soft_modes": False}}}, "drop sottovoce.soft_modes"),
    ],
)
@pytest.mark.parametrize("mode", ["latent", "routed"])
def test_engines_that_serve_explicit_only(changes: dict[str, Any], remedy: str, mode: str) -> None:
    capabilities = Capabilities.from_config(engine(**changes))
    assert capabilities.modes == ["explicit"]
    with pytest.raises(UnsupportedModeError) as caught:
        admitted({"reasoning_mode": mode}, capabilities)
    error = caught.value
    assert (error.code, error.param, error.value) == (
        "unsupported_reasoning_mode",
        "reasoning_mode",
        mode,
    )
    assert remedy in error.remedy
    assert str(error) == f"reasoning_mode: {mode!r} {error.remedy}"


def test_an_engine_that_serves_every_mode() -> None:
    capabilities = Capabilities.from_config(engine())
    assert capabilities.refusal is None
    assert capabilities.modes == ["explicit", "latent", "routed"]
    assert (capabilities.ledger_positions, capabilities.ledger_entries) == (4096, 40960)


@pytest.mark.parametrize(
    "extra",
    [
        {"reasoning_mode": "latent"},
        {"reasoning_mode": "routed"},
        {"routing": {"min_answer_tokens": 5}},
    ],
    ids=str,
)
def test_a_grammar_that_binds_thinking_is_refused(extra: dict[str, Any]) -> None:
    """It would forbid the end marker, which soft steps and limits may have to write."""
    assert stamp_of(admitted(extra, SOFT, structured_outputs="a grammar"))
    early = dataclasses.replace(SOFT, grammar_waits=False)
    with pytest.raises(
        InvalidValueError, match=r"structured_outputs: .*--reasoning-parser"
    ) as caught:
        admitted(extra, early, structured_outputs="a grammar")
    assert caught.value.param == "structured_outputs"
    traced = {"include_reasoning_trace": True}
    assert stamp_of(admitted(traced, early, structured_outputs="a grammar"))


@pytest.mark.parametrize("mode", ["latent", "routed"])
def test_too_many_stop_tokens(mode: str) -> None:
    admitted({"reasoning_mode": mode}, all_stop_token_ids=set(range(32)))
    with pytest.raises(InvalidValueError, match="stop_token_ids: 33 is more than the 32") as caught:
        admitted({"reasoning_mode": mode}, all_stop_token_ids=set(range(33)))
    assert (caught.value.param, caught.value.value) == ("stop_token_ids", 33)


@pytest.mark.parametrize(("top_n", "fits"), [(1, 100), (10, 100), (11, 90), (32, 31)])
def test_the_ledger_bounds_the_length(top_n: int, fits: int) -> None:
    body = {"reasoning_mode": "latent", "routing": {"top_n": top_n}}
    admitted(body, max_tokens=fits)
    with pytest.raises(InvalidValueError) as caught:
        admitted(body, max_tokens=fits + 1)
    assert (caught.value.param, caught.value.value) == ("max_tokens", fits + 1)
    for part in (f"the {fits} tokens", f"at routing.top_n {top_n}", "raise --ledger-gib"):
        assert part in caught.value.remedy


def test_swi_needs_markers_of_one_token() -> None:
    body = {"reasoning_mode": "routed", "routing": {"policy": "swi"}}
    admitted(body)
    with pytest.raises(InvalidValueError, match="swi' blends in markers of one token each"):
        admitted(body, dataclasses.replace(SOFT, has_anchors=False))


def test_what_the_switch_budget_writes_into_an_answer_fits_no_structure() -> None:
    routing = {"policy": "swi", "phase": "all"}
    body = {"reasoning_mode": "routed", "routing": {**routing, "switch_budget": 2}}
    admitted(body)
    admitted({**body, "routing": routing}, structured_outputs=object())
    with pytest.raises(InvalidValueError, match=r"routing\.phase: 'all' lets the switch budget"):
        admitted(body, structured_outputs=object())


def test_a_policys_own_term_takes_room_too() -> None:
    routing = {"policy": "moi", "top_n": 19}
    admitted({"reasoning_mode": "latent", "routing": routing}, max_tokens=50)
    with pytest.raises(InvalidValueError, match="the 50 tokens"):
        admitted({"reasoning_mode": "latent", "routing": routing}, max_tokens=51)


@pytest.mark.parametrize("max_tokens", [180, None], ids=["the context", "unset"])
def test_a_request_without_a_length_fills_the_ledger(max_tokens: int | None) -> None:
    """vLLM gives it what the context has left, which no client asked for."""
    assert admitted({"reasoning_mode": "latent"}, max_tokens=max_tokens).max_tokens == 100
    assert admitted(None, max_tokens=max_tokens).max_tokens == max_tokens
    with pytest.raises(InvalidValueError, match="max_tokens"):
        admitted({"reasoning_mode": "latent"}, max_tokens=179)


@pytest.mark.parametrize("sampling", [None, Sampling()], ids=["pooling", "generation"])
def test_prompt_embeddings_on_a_cpu(sampling: Sampling | None) -> None:
    admit(request(sampling, embeds=object()), SOFT)
    with pytest.raises(InvalidValueError, match=r"prompt_embeds.*send the prompt as text"):
        admit(
            request(sampling, embeds=object()), dataclasses.replace(SOFT, lacks_prompt_embeds=True)
        )


@pytest.mark.parametrize(
    "sampling", [{"max_tokens": 101}, {"all_stop_token_ids": set(range(33))}], ids=str
)
def test_a_trace_is_bounded_too(sampling: dict[str, Any]) -> None:
    """The worker keeps the state of every traced step, and every stop token, in fixed rows."""
    with pytest.raises(RoutingError):
        admitted({"include_reasoning_trace": True}, **sampling)


def test_the_ledger_shrinks_to_its_size() -> None:
    small = engine(additional_config={"sottovoce": {"ledger_gib": 0.001}})
    capabilities = Capabilities.from_config(small)
    # 2^30 / 1000 bytes over 16 rows of 108 bytes a position.
    assert capabilities.ledger_positions == int(0.001 * 2**30 / (16 * 108))
    with pytest.raises(InvalidValueError, match="raise --ledger-gib"):
        admitted({"reasoning_mode": "latent"}, capabilities, max_tokens=2000)


def test_a_refused_request_is_left_as_it_was() -> None:
    sampling = Sampling({"reasoning_mode": "latent"}, max_tokens=101)
    with pytest.raises(InvalidValueError):
        admit(request(sampling), SOFT)
    assert sampling == Sampling({"reasoning_mode": "latent"}, max_tokens=101)


@pytest.mark.parametrize("extra", [{}, {"reasoning_mode": "latent"}])
def test_a_thinking_budget_among_the_extra_arguments(extra: dict[str, Any]) -> None:
    """For protocols that have no field for it; a client's own key is no worse."""
    sampling = admitted({**extra, BUDGET_KEY: 7})
    assert sampling.thinking_token_budget == 7
    assert BUDGET_KEY not in (sampling.extra_args or {})
    assert admitted({**extra, BUDGET_KEY: 7}, thinking_token_budget=3).thinking_token_budget == 3
    for wrong in (-1, 1.5, "7", True):
        with pytest.raises(InvalidValueError, match=f"{BUDGET_KEY}: {wrong!r} must be an integer"):
            admitted({**extra, BUDGET_KEY: wrong})
    with pytest.raises(InvalidValueError, match=f"{BUDGET_KEY}: 7 needs a model with reasoning"):
        admitted({**extra, BUDGET_KEY: 7}, dataclasses.replace(SOFT, num_end_tokens=0))


@pytest.mark.parametrize("extra", [None, {"reasoning_mode": "latent"}])
def test_a_seed_must_leave_room_for_its_choices(extra: dict[str, Any] | None) -> None:
    """vLLM's worker would die of the second choice's seed, in any mode."""
    last = 2**63 - 1
    admitted(extra, seed=last)
    admitted(extra, seed=last - 1, n=2)
    with pytest.raises(InvalidValueError, match="seed") as caught:
        admitted(extra, seed=last, n=2)
    assert str(last) in str(caught.value)
