"""The policies: which mode each belongs to, its kernel code, and the parameters it reads.

A new policy is an entry here and a branch in `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass

import sottovoce_kernels as kernels


@dataclass(frozen=True)
class PolicySpec:
    """One policy as a user sees it."""

    name: str
    mode: str
    code: kernels.Policy
    source: str
    reads: frozenset[str] = frozenset()


_ALL = (
    PolicySpec("observe", "explicit", kernels.Policy.OBSERVE, "the trace of an explicit request"),
    PolicySpec("soft", "latent", kernels.Policy.SOFT, "Soft Thinking, arXiv 2505.15778"),
    PolicySpec(
        "thinkrouter",
        "routed",
        kernels.Policy.THINKROUTER,
        "ThinkRouter, arXiv 2602.11683",
        frozenset({"threshold", "confidence"}),
    ),
    PolicySpec(
        "random",
        "routed",
        kernels.Policy.RANDOM,
        "control: a coin at a given soft share",
        frozenset({"soft_share"}),
    ),
    PolicySpec(
        "adaptive_greedy",
        "routed",
        kernels.Policy.ADAPTIVE_GREEDY,
        "control: argmax, never soft, where ThinkRouter would be soft",
        frozenset({"threshold", "confidence"}),
    ),
)
POLICIES: dict[str, PolicySpec] = {spec.name: spec for spec in _ALL}
DEFAULT_POLICY: dict[str, str] = {"latent": "soft", "routed": "thinkrouter"}
MODES: tuple[str, ...] = ("explicit", "latent", "routed")
