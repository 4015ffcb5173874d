"""A request's routing parameters: parsed from what the client sent, validated, frozen.

The same keys arrive as top-level fields of our server and as `vllm_xargs` of plain `vllm serve`,
where `routing` may be a JSON string.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from sottovoce_kernels import MAX_TOP_N

from .errors import InvalidValueError
from .latent.manifest import Manifest as LatentManifest
from .latent.params import LatentParams
from .policies import (
    ALWAYS_READ,
    COLD_STOP,
    DEFAULT_POLICY,
    MODES,
    NO_COLD_STOP,
    POLICIES,
    ColdStop,
    PolicySpec,
)
from .shortcuts.manifest import Manifest
from .shortcuts.params import ShortcutParams
from .trained import TRAINED_KEYS, Trained, parse_trained
from .values import (
    flag,
    integer,
    mapping,
    number,
    one_of,
    refuse_unknown,
    share,
    temperature,
)

REQUEST_KEYS = ("reasoning_mode", "routing", *TRAINED_KEYS, "include_reasoning_trace")
_NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})
BUDGET_KEY = "thinking_token_budget"  # in vllm_xargs, for protocols without such a field
STAMP = "sottovoce"  # the extra_args key by which admission hands parameters to the worker


def stamp_of(sampling: Any) -> dict[str, Any] | None:
    """What admission stamped on sampling parameters; None if nothing, or where there are none."""
    return (sampling.extra_args or {}).get(STAMP) if sampling is not None else None


# Soft Thinking's sampling settings, for soft-capable modes where a request sets none.
SOFT_SAMPLING_DEFAULTS: dict[str, float | int] = {
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 30,
    "min_p": 0.001,
}


@dataclass(frozen=True)
class RoutingParams:
    """One request's mode and policy; `explicit` has none unless it is traced or bounded."""

    mode: str = "explicit"
    policy: str | None = None
    threshold: float = 0.7
    confidence: str = "tempered"
    top_n: int = 10
    mix_temperature: float | None = None  # None: the sampling temperature, 1.0 where that is 0
    soft_share: float = 0.5
    cold_stop: ColdStop = COLD_STOP
    gumbel_temperature: float = 0.5
    beta: float = 1.0
    phase: str = "think"
    entropy_threshold: float = 0.5
    push_off: float = 1.0
    mix: str = "top_n"
    window: int = 512  # steps
    enter_blend: float = 1.0
    exit_blend: float = 0.7
    switch_budget: int = 0  # 0: off
    min_answer_tokens: int | None = None  # None: the engine's own number
    trace: bool = False
    shortcuts: ShortcutParams | None = None
    latent: LatentParams | None = None

    @property
    def trained(self) -> dict[str, Trained]:
        """What the request does that its model was trained for, by key: one thing at most."""
        both = {"shortcuts": self.shortcuts, "latent": self.latent}
        return {key: value for key, value in both.items() if value is not None}

    @property
    def is_soft_capable(self) -> bool:
        """Whether a policy may make a step of this request soft."""
        return self.mode != "explicit" and not self.trained

    @property
    def method(self) -> str | None:
        """Who decides what thinking steps are fed, a policy or the model's own way; else None."""
        if self.latent is not None:
            return self.latent.method
        return self.policy if self.is_soft_capable else None

    @property
    def needs_plugin(self) -> bool:
        """Whether the engine has anything to do for this request that vLLM alone does not."""
        return self.policy is not None or bool(self.trained)

    @property
    def spec(self) -> PolicySpec:
        """The policy; only for parameters that have one."""
        assert self.policy is not None
        return POLICIES[self.policy]

    @property
    def mixes_all(self) -> bool:
        """Whether its mixtures are of the whole vocabulary, which the ledger keeps as vectors."""
        return self.mix == "full"

    @property
    def switches_on(self) -> bool:
        """Whether `swi` goes on past an end that its switch budget forces."""
        return self.switch_budget > 0 and self.phase == "all"

    @property
    def num_terms(self) -> int:
        """The most terms that a step's record tells of."""
        return self.top_n + self.spec.num_own_terms

    @property
    def num_entries(self) -> int:
        """What a generated position takes of the ledger, besides a vector."""
        return 1 if self.mixes_all else self.num_terms

    def as_routing(self) -> dict[str, Any]:
        """The `routing` object of a request that spells out all that is read of it."""
        reads = ALWAYS_READ if self.policy is None else self.spec.reads
        return {key: value for key, value in asdict(self).items() if key in reads}

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, as they cross to the engine process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RoutingParams:
        """The inverse of `as_dict`."""
        kinds = {"shortcuts": ShortcutParams, "latent": LatentParams, "cold_stop": ColdStop}
        rest = {key: kind(**data[key]) for key, kind in kinds.items() if data[key] is not None}
        return cls(**{**data, **rest})


def _cold_stop(value: Any) -> ColdStop:
    if value is None or value is False:
        return NO_COLD_STOP
    table = mapping("routing.cold_stop", value)
    known = ["entropy", "steps"]
    refuse_unknown("routing.cold_stop", table, known)
    return ColdStop(
        entropy=number(
            "routing.cold_stop.entropy",
            table.get("entropy", COLD_STOP.entropy),
            lambda x: x >= 0,
            "must be a number of nats, 0 or more",
        ),
        steps=integer("routing.cold_stop.steps", table.get("steps", COLD_STOP.steps), 0, 2**31 - 1),
    )


# `observe` belongs to traced explicit requests and is nobody's to choose.
_CHOSEN = tuple(name for name, spec in POLICIES.items() if spec.mode != "explicit")
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "policy": lambda v: one_of("routing.policy", v, _CHOSEN),
    "threshold": lambda v: number(
        "routing.threshold", v, lambda x: 0 < x <= 1, "must be a number in (0, 1]"
    ),
    "confidence": lambda v: one_of("routing.confidence", v, ("tempered", "raw")),
    "top_n": lambda v: integer("routing.top_n", v, 1, MAX_TOP_N),
    "mix_temperature": lambda v: temperature("routing.mix_temperature", v),
    "soft_share": lambda v: share("routing.soft_share", v),
    "gumbel_temperature": lambda v: temperature("routing.gumbel_temperature", v),
    "beta": lambda v: number(
        "routing.beta", v, lambda x: 0 <= x <= 100, "must be a number from 0 to 100"
    ),
    "phase": lambda v: one_of("routing.phase", v, ("think", "all")),
    "entropy_threshold": lambda v: share("routing.entropy_threshold", v),
    "push_off": lambda v: number(
        "routing.push_off", v, lambda x: 0 <= x <= 10, "must be a number from 0 to 10"
    ),
    "mix": lambda v: one_of("routing.mix", v, ("top_n", "full")),
    "window": lambda v: integer("routing.window", v, 1, 2**31 - 1),
    "enter_blend": lambda v: share("routing.enter_blend", v),
    "exit_blend": lambda v: share("routing.exit_blend", v),
    "switch_budget": lambda v: integer("routing.switch_budget", v, 0, 2**31 - 1),
    "min_answer_tokens": lambda v: integer("routing.min_answer_tokens", v, 0, 2**31 - 1),
    "cold_stop": _cold_stop,
}


def _refuse_unread(spec: PolicySpec, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key not in spec.reads:
            readers = [name for name, other in POLICIES.items() if key in other.reads]
            remedy = f"is not read by policy {spec.name}, but by {readers}; leave it out"
            raise InvalidValueError(f"routing.{key}", value, remedy)


def parse_routing(value: Any) -> dict[str, Any]:
    """The fields of a `routing` object, validated and of the types that `RoutingParams` holds.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    table = mapping("routing", value)
    refuse_unknown("routing", table, list(_PARSERS))
    return {
        key: _PARSERS[key](item)
        for key, item in table.items()
        if item is not None or key == "cold_stop"
    }


def parse(
    request: Mapping[str, Any],
    defaults: Mapping[str, Any] = _NO_DEFAULTS,
    manifest: Manifest | None = None,
    latent: LatentManifest | None = None,
) -> RoutingParams:
    """Read a request's routing keys; keys of others are left alone.

    Args:
        defaults: what `parse_routing` made of the defaults of soft modes, without a policy.
        manifest: of the model's shortcuts, None where it has none.
        latent: of a latent-trained model, None for any other.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    given = {key: request[key] for key in REQUEST_KEYS if request.get(key) is not None}
    trace = flag("include_reasoning_trace", given.get("include_reasoning_trace", False))
    trained: dict[str, Any] = {**parse_trained(given, manifest, latent)}
    if trained:
        (own,) = trained.values()
        policy = "observe" if trace else None
        return RoutingParams(own.mode, policy, cold_stop=NO_COLD_STOP, trace=trace, **trained)
    return _with_policy(given, trace, defaults)


def _with_policy(
    given: Mapping[str, Any], trace: bool, defaults: Mapping[str, Any]
) -> RoutingParams:
    mode = one_of("reasoning_mode", given.get("reasoning_mode", "explicit"), MODES)
    values = parse_routing(given.get("routing", {}))
    if mode == "explicit":
        if not values.keys() <= ALWAYS_READ:
            raise InvalidValueError(
                "routing",
                given["routing"],
                "needs reasoning_mode latent or routed; leave it out or set one",
            )
        policy = "observe" if trace or values.get("min_answer_tokens") else None
        return RoutingParams(policy=policy, cold_stop=NO_COLD_STOP, trace=trace, **values)
    policy = values.pop("policy", DEFAULT_POLICY[mode])
    if POLICIES[policy].mode != mode:
        fitting = [name for name, spec in POLICIES.items() if spec.mode == mode]
        remedy = f"is not for {mode}; use one of {fitting}"
        raise InvalidValueError("routing.policy", policy, remedy)
    spec = POLICIES[policy]
    _refuse_unread(spec, values)
    # What a policy's own source sets is closer to it than the defaults of all soft modes.
    read = {key: value for key, value in defaults.items() if key in spec.reads}
    values = {**read, **spec.defaults, **values}
    return RoutingParams(mode=mode, policy=policy, trace=trace, **values)
