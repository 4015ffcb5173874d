"""The policies: which mode each belongs to, its kernel code, and the parameters it reads.

A new policy is an entry here and a branch in `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sottovoce_kernels as kernels


@dataclass(frozen=True)
class ColdStop:
    """Force the end marker after `steps` thinking steps in a row of an entropy below `entropy`."""

    entropy: float = 0.01  # nats
    steps: int = 256  # 0: off


COLD_STOP, NO_COLD_STOP = ColdStop(), ColdStop(steps=0)


@dataclass(frozen=True)
class PolicySpec:
    """One policy as a user sees it."""

    name: str
    mode: str
    code: kernels.Policy
    source: str
    reads: frozenset[str] = frozenset()  # keys of `routing`
    defaults: Mapping[str, Any] = field(default_factory=dict)  # fields of `RoutingParams`
    num_own_terms: int = 0  # terms that it may feed besides the mixture's


ALWAYS_READ = frozenset({"min_answer_tokens"})
_MIXTURE = ALWAYS_READ | {"policy", "top_n", "mix_temperature", "cold_stop"}
_ALL = (
    PolicySpec(
        "observe",
        "explicit",
        kernels.Policy.OBSERVE,
        "the trace, or the bounded thinking, of an explicit request",
        ALWAYS_READ,
    ),
    PolicySpec("soft", "latent", kernels.Policy.SOFT, "Soft Thinking, arXiv 2505.15778", _MIXTURE),
    PolicySpec(
        "stochastic",
        "latent",
        kernels.Policy.STOCHASTIC,
        "Stochastic Soft Thinking, arXiv 2508.03440",
        _MIXTURE | {"gumbel_temperature"},
        {"cold_stop": NO_COLD_STOP},
    ),
    PolicySpec(
        "moi",
        "latent",
        kernels.Policy.MOI,
        "Mixture of Inputs, arXiv 2505.14827",
        _MIXTURE | {"beta", "phase"},
        {"top_n": 20, "cold_stop": NO_COLD_STOP},
        num_own_terms=1,
    ),
    PolicySpec(
        "thinkrouter",
        "routed",
        kernels.Policy.THINKROUTER,
        "ThinkRouter, arXiv 2602.11683",
        _MIXTURE | {"threshold", "confidence"},
    ),
    PolicySpec(
        "random",
        "routed",
        kernels.Policy.RANDOM,
        "control: a coin at a given soft share",
        _MIXTURE | {"soft_share"},
    ),
    PolicySpec(
        "adaptive_greedy",
        "routed",
        kernels.Policy.ADAPTIVE_GREEDY,
        "control: argmax, never soft, where ThinkRouter would be soft",
        _MIXTURE | {"threshold", "confidence"},
    ),
    PolicySpec(
        "selar",
        "routed",
        kernels.Policy.SELAR,
        "SeLaR, arXiv 2604.08299",
        _MIXTURE | {"entropy_threshold", "push_off"},
        {"top_n": 3, "cold_stop": NO_COLD_STOP},
    ),
    PolicySpec(
        "swi",
        "routed",
        kernels.Policy.SWI,
        "SwiReasoning, arXiv 2510.05069",
        _MIXTURE - {"mix_temperature"}
        | {"mix", "window", "enter_blend", "exit_blend", "switch_budget", "phase"},
        {"cold_stop": NO_COLD_STOP},
        num_own_terms=1,
    ),
)
POLICIES: dict[str, PolicySpec] = {spec.name: spec for spec in _ALL}
DEFAULT_POLICY: dict[str, str] = {"latent": "soft", "routed": "thinkrouter"}
MODES: tuple[str, ...] = ("explicit", "latent", "routed")
