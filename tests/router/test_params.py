"""`parse`: what a client may send, and what each refusal says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sottovoce_router import (
    MODES,
    POLICIES,
    ColdStop,
    InvalidValueError,
    RoutingParams,
    UnknownKeyError,
    parse,
)

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
THRESHOLD = "must be a number in (0, 1]"
TOP_N = "must be an integer from 1 to 32"
NATS = "must be a number of nats, 0 or more"
STEPS = "must be an integer from 0 to 2147483647"
SHARE = "must be a number from 0 to 1"
LATENT = [name for name, spec in POLICIES.items() if spec.mode == "latent"]
NOT_THRESHOLDS: list[Any] = [0, 0.0, -1, 1.5, NAN, INF, -INF, HUGE, True, False, "0.5", [0.5], {}]
NOT_MODES: list[Any] = ["fast", "Latent", "", 1, 0, False, True, [], ["latent"], {}]
NOT_FLAGS: list[Any] = ["true", "", 2, 0.5, [], {}, NAN]
SHORTCUTS = "needs a model with shortcut weights; leave it out"

# (a key of `routing`, a value, the key to be named, the value to be named, the remedy)
BAD_ROUTING: list[tuple[str, Any, str, Any, str]] = [
    ("policy", "magic", "routing.policy", "magic", "must be one of ['soft', 'stochastic'"),
    ("policy", ["soft"], "routing.policy", ["soft"], "must be one of"),
    ("policy", 3, "routing.policy", 3, "must be one of"),
    ("policy", "soft", "routing.policy", "soft", "is not for routed; use one of ['thinkrouter'"),
    ("policy", "observe", "routing.policy", "observe", "must be one of"),
    *(("threshold", bad, "routing.threshold", bad, THRESHOLD) for bad in NOT_THRESHOLDS),
    ("confidence", "hot", "routing.confidence", "hot", "must be one of ['tempered', 'raw']"),
    ("confidence", True, "routing.confidence", True, "must be one of ['tempered', 'raw']"),
    *(
        ("top_n", bad, "routing.top_n", bad, TOP_N)
        for bad in (0, 33, -1, 2.5, 2.0, NAN, HUGE, True, "10", [10])
    ),
    *(
        ("mix_temperature", bad, "routing.mix_temperature", bad, "must be from 0.01 to 100")
        for bad in (0, 0.009, 1e-50, 100.5, -1, NAN, INF, HUGE, True, "1")
    ),
    *(
        ("gumbel_temperature", bad, "routing.gumbel_temperature", bad, "must be from 0.01 to 100")
        for bad in (0, 0.009, 100.5, -1, NAN, INF, True, "1")
    ),
    *(
        (key, bad, f"routing.{key}", bad, remedy)
        for key, high, remedy in (
            ("beta", 100.5, "must be a number from 0 to 100"),
            ("entropy_threshold", 1.5, SHARE),
            ("push_off", 11, "must be a number from 0 to 10"),
        )
        for bad in (-0.1, high, NAN, INF, HUGE, True, "1")
    ),
    *(
        (key, bad, f"routing.{key}", bad, f"must be an integer from {low} to 2147483647")
        for key, low in (("window", 1), ("switch_budget", 0))
        for bad in (low - 1, 1.5, 2**31, NAN, True, "5")
    ),
    *(
        (key, bad, f"routing.{key}", bad, SHARE)
        for key in ("enter_blend", "exit_blend")
        for bad in (-0.1, 1.1, NAN, True, "1")
    ),
    ("mix", "all", "routing.mix", "all", "must be one of ['top_n', 'full']"),
    ("phase", "answer", "routing.phase", "answer", "must be one of ['think', 'all']"),
    *(
        ("min_answer_tokens", bad, "routing.min_answer_tokens", bad, STEPS)
        for bad in (-1, 1.5, 2**31, NAN, True, "5")
    ),
    *(
        ("soft_share", bad, "routing.soft_share", bad, SHARE)
        for bad in (-0.1, 1.1, NAN, INF, True, "0.5")
    ),
    *(
        ("cold_stop", bad, "routing.cold_stop", bad, "must be an object")
        for bad in (0, 1, True, 0.01, [256])
    ),
    ("cold_stop", "off", "routing.cold_stop", "off", "must be a JSON object"),
    ("cold_stop", "[1]", "routing.cold_stop", [1], "must be an object"),
    *(
        ("cold_stop", {"entropy": bad}, "routing.cold_stop.entropy", bad, NATS)
        for bad in (-0.1, NAN, INF, HUGE, True, None, "0.01")
    ),
    *(
        ("cold_stop", {"steps": bad}, "routing.cold_stop.steps", bad, STEPS)
        for bad in (-1, 1.5, 2**31, True, None, "256")
    ),
]
# (a request, the key to be named, the value to be named, the remedy)
BAD_REQUESTS: list[tuple[dict[str, Any], str, Any, str]] = [
    *(
        ({"reasoning_mode": bad}, "reasoning_mode", bad, f"must be one of {list(MODES)}")
        for bad in NOT_MODES
    ),
    *(
        ({"reasoning_mode": "latent", "routing": bad}, "routing", bad, "must be an object")
        for bad in (5, 0, False, True, 0.5, [], [1])
    ),
    *(
        ({"reasoning_mode": "latent", "routing": bad}, "routing", bad, "must be a JSON object")
        for bad in ("", "{", "{'top_n': 5}", "soft", "[" * 100_000)
    ),
    *(
        ({"reasoning_mode": "latent", "routing": text}, "routing", bad, "must be an object")
        for text, bad in (("[]", []), ("null", None), ("5", 5), ('"soft"', "soft"))
    ),
    *(
        ({"include_reasoning_trace": bad}, "include_reasoning_trace", bad, "must be true or false")
        for bad in NOT_FLAGS
    ),
    *(
        ({"shortcuts": bad}, "shortcuts", bad, SHORTCUTS)
        for bad in ({}, {"depth": 0.6}, {"steps": 2}, False, 0)
    ),
    ({"reasoning_mode": "routed", "shortcuts": {"steps": 2}}, "shortcuts", {"steps": 2}, SHORTCUTS),
    *(
        (
            request | {"routing": routing},
            "routing",
            routing,
            "needs reasoning_mode latent or routed; leave it out or set one",
        )
        for request in ({}, {"reasoning_mode": "explicit"}, {"reasoning_mode": None})
        for routing in (
            {"top_n": 5},
            {"policy": "soft"},
            {"cold_stop": None},
            {"min_answer_tokens": 5, "top_n": 5},
        )
    ),
    (
        {"reasoning_mode": "latent", "routing": {"policy": "thinkrouter"}},
        "routing.policy",
        "thinkrouter",
        f"is not for latent; use one of {LATENT}",
    ),
]
UNKNOWN: list[tuple[Any, str, str]] = [
    ({"tau": 0.7}, "routing.tau", "threshold"),
    ({"tau": None}, "routing.tau", "threshold"),
    ({"threshold": 0.7, "Top_n": 3}, "routing.Top_n", "top_n"),
    ('{"tau": 0.7}', "routing.tau", "threshold"),
    ({"cold_stop": {"nats": 0.1}}, "routing.cold_stop.nats", "entropy"),
    ({"cold_stop": '{"nats": 0.1}'}, "routing.cold_stop.nats", "entropy"),
]
GOOD_ROUTING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"threshold": 1}, {"threshold": 1.0}),
    ({"threshold": 1e-9}, {"threshold": 1e-9}),
    ({"threshold": None}, {}),
    ({"policy": None}, {}),
    ({"policy": "random", "soft_share": 0}, {"policy": "random", "soft_share": 0.0}),
    ({"policy": "adaptive_greedy"}, {"policy": "adaptive_greedy"}),
    ({"confidence": "raw"}, {"confidence": "raw"}),
    ({"top_n": 1}, {"top_n": 1}),
    ({"top_n": 32}, {"top_n": 32}),
    ({"mix_temperature": 0.01}, {"mix_temperature": 0.01}),
    ({"mix_temperature": 100}, {"mix_temperature": 100.0}),
    ({"cold_stop": None}, {"cold_stop": ColdStop(steps=0)}),
    ({"cold_stop": False}, {"cold_stop": ColdStop(steps=0)}),
    ({"cold_stop": {}}, {}),
    ({"cold_stop": {"entropy": 0}}, {"cold_stop": ColdStop(entropy=0.0)}),
    ({"cold_stop": '{"steps": 5}'}, {"cold_stop": ColdStop(steps=5)}),
]


def check_message(error: InvalidValueError | UnknownKeyError, key: str, value: Any) -> None:
    assert error.param == key
    assert repr(error.value) == repr(value), "the value, NaN included"
    assert str(error) == f"{key}: {value!r} {error.remedy}"


@pytest.mark.parametrize(("key", "given", "named", "value", "remedy"), BAD_ROUTING)
def test_bad_routing(key: str, given: Any, named: str, value: Any, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse({"reasoning_mode": "routed", "routing": {key: given}})
    check_message(caught.value, named, value)
    assert caught.value.remedy.startswith(remedy)
    assert caught.value.code == "invalid_value"


@pytest.mark.parametrize(("request_body", "named", "value", "remedy"), BAD_REQUESTS)
def test_bad_request(request_body: dict[str, Any], named: str, value: Any, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse(request_body)
    check_message(caught.value, named, value)
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(("routing", "named", "known"), UNKNOWN)
def test_unknown_key(routing: Any, named: str, known: str) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        parse({"reasoning_mode": "routed", "routing": routing})
    check_message(caught.value, named, named.rsplit(".", 1)[1])
    assert "is unknown; use one of [" in str(caught.value)
    assert f"'{known}'" in str(caught.value)
    assert caught.value.code == "unknown_parameter"


@pytest.mark.parametrize("nan", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_numbers_that_are_none(nan: str) -> None:
    routing = f'{{"threshold": {nan}}}'
    with pytest.raises(InvalidValueError, match=r"routing\.threshold"):
        parse({"reasoning_mode": "routed", "routing": routing})


@pytest.mark.parametrize("as_json", [False, True], ids=["object", "vllm_xargs"])
@pytest.mark.parametrize(("routing", "differs"), GOOD_ROUTING)
def test_good_routing(routing: dict[str, Any], differs: dict[str, Any], as_json: bool) -> None:
    given = json.dumps(routing) if as_json else routing
    want = RoutingParams(**{"mode": "routed", "policy": "thinkrouter", **differs})
    assert parse({"reasoning_mode": "routed", "routing": given}) == want


def test_defaults() -> None:
    off = ColdStop(steps=0)
    assert parse({}) == RoutingParams(cold_stop=off)
    assert parse({"reasoning_mode": None, "routing": None, "shortcuts": None}) == parse({})
    assert parse({"reasoning_mode": "explicit", "routing": {}}) == parse({})
    assert parse({"reasoning_mode": "latent"}) == RoutingParams(mode="latent", policy="soft")
    routed = parse({"reasoning_mode": "routed"})
    assert (routed.policy, routed.threshold, routed.confidence) == ("thinkrouter", 0.7, "tempered")
    assert (routed.top_n, routed.mix_temperature, routed.trace) == (10, None, False)
    assert routed.cold_stop == ColdStop(entropy=0.01, steps=256)


@pytest.mark.parametrize("flag", [True, 1, 1.0])
def test_a_traced_explicit_request_is_observed(flag: Any) -> None:
    params = parse({"include_reasoning_trace": flag})
    assert (params.mode, params.policy, params.trace) == ("explicit", "observe", True)
    assert not params.is_soft_capable


@pytest.mark.parametrize("flag", [False, 0, 0.0, None])
def test_untraced(flag: Any) -> None:
    assert parse({"reasoning_mode": "latent", "include_reasoning_trace": flag}).trace is False


def test_other_keys_are_left_alone() -> None:
    assert parse({"temperature": "warm", "sottovoce": {"params": {}}}) == parse({})


@pytest.mark.parametrize("policy", POLICIES)
def test_round_trip(policy: str) -> None:
    mode = POLICIES[policy].mode
    cold = ColdStop(entropy=0.5, steps=3)
    params = RoutingParams(mode, policy, 0.25, "raw", 32, 0.5, 0.75, cold, trace=True)
    assert RoutingParams.from_dict(json.loads(json.dumps(params.as_dict()))) == params


def test_parameters_are_frozen() -> None:
    with pytest.raises(AttributeError):
        parse({}).threshold = 0.1  # type: ignore[misc]
