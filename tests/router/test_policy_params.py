"""What each policy reads, what it does not, and the defaults that it has of its own."""

from __future__ import annotations

from typing import Any

import pytest

from sottovoce_router import POLICIES, ColdStop, InvalidValueError, RoutingParams, parse

# (a policy, a key that it does not read, a value, a policy that does)
UNREAD: list[tuple[str, str, Any, str]] = [
    ("soft", "threshold", 0.7, "'thinkrouter', 'adaptive_greedy'"),
    ("soft", "confidence", "raw", "'thinkrouter', 'adaptive_greedy'"),
    ("random", "threshold", 0.7, "'thinkrouter', 'adaptive_greedy'"),
    ("thinkrouter", "soft_share", 0.5, "'random'"),
    ("thinkrouter", "entropy_threshold", 0.5, "'selar'"),
    ("selar", "beta", 1.0, "'moi'"),
    ("thinkrouter", "window", 512, "'swi'"),
    ("moi", "gumbel_temperature", 0.5, "'stochastic'"),
    ("soft", "mix", "full", "'swi'"),
    ("soft", "phase", "all", "'moi', 'swi'"),
]


@pytest.mark.parametrize(("policy", "key", "value", "readers"), UNREAD)
def test_a_key_that_the_policy_does_not_read(
    policy: str, key: str, value: Any, readers: str
) -> None:
    routing = {"policy": policy, key: value}
    with pytest.raises(InvalidValueError) as caught:
        parse({"reasoning_mode": POLICIES[policy].mode, "routing": routing})
    assert (caught.value.param, caught.value.value) == (f"routing.{key}", value)
    assert (
        caught.value.remedy == f"is not read by policy {policy}, but by [{readers}]; leave it out"
    )


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "observe"])
def test_what_a_policy_reads_comes_back(policy: str) -> None:
    """Defaults of other policies' keys are no request's fault."""
    everything = {"threshold": 0.3, "confidence": "raw", "soft_share": 0.2, "beta": 3.0}
    request = {"reasoning_mode": POLICIES[policy].mode, "routing": {"policy": policy}}
    params = parse(request, everything)
    again = parse({**request, "routing": params.as_routing()})
    assert again == params
    assert params.as_routing().keys() == POLICIES[policy].reads


def test_a_policy_has_defaults_of_its_own() -> None:
    def latent(policy: str, **routing: Any) -> RoutingParams:
        routing["policy"] = policy
        return parse({"reasoning_mode": "latent", "routing": routing}, {"cold_stop": ColdStop(1.0)})

    assert latent("soft").cold_stop == ColdStop(1.0), "the defaults of soft modes"
    assert latent("stochastic").cold_stop.steps == 0
    assert latent("stochastic", cold_stop={"steps": 9}).cold_stop == ColdStop(0.01, 9)
    assert latent("stochastic").gumbel_temperature == 0.5
    assert latent("stochastic", gumbel_temperature=1).gumbel_temperature == 1.0
    assert latent("moi", phase="all").phase == "all"
    moi = latent("moi", beta=2, phase="think")
    assert (moi.beta, moi.top_n, moi.num_terms) == (2.0, 20, 21)
    assert latent("moi", top_n=5).top_n == 5
    selar = parse({"reasoning_mode": "routed", "routing": {"policy": "selar"}}, {"top_n": 10})
    assert (selar.top_n, selar.num_terms, selar.cold_stop.steps) == (3, 3, 0)
    swi = parse({"reasoning_mode": "routed", "routing": {"policy": "swi"}})
    assert (swi.window, swi.enter_blend, swi.exit_blend, swi.switch_budget) == (512, 1.0, 0.7, 0)
    assert (swi.phase, swi.switches_on) == ("think", False)
    assert (swi.mix, swi.num_terms, swi.num_entries, swi.cold_stop.steps) == ("top_n", 11, 11, 0)
    full = parse({"reasoning_mode": "routed", "routing": {"policy": "swi", "mix": "full"}})
    assert (full.mixes_all, full.num_terms, full.num_entries) == (True, 11, 1)
    assert (selar.entropy_threshold, selar.push_off) == (0.5, 1.0)


def test_swi_has_a_temperature_of_its_own() -> None:
    with pytest.raises(InvalidValueError, match=r"routing\.mix_temperature: 0\.5 is not read by"):
        parse({"reasoning_mode": "routed", "routing": {"policy": "swi", "mix_temperature": 0.5}})
