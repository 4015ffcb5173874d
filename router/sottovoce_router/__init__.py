"""The vLLM plugin: parameters, policies, model state, sampler, ledger, and their hooks."""

from .capabilities import Capabilities
from .errors import InvalidValueError, RoutingError, UnknownKeyError, UnsupportedModeError
from .params import (
    REQUEST_KEYS,
    SOFT_SAMPLING_DEFAULTS,
    RoutingParams,
    parse,
    parse_routing,
)
from .policies import DEFAULT_POLICY, MODES, POLICIES, ColdStop
from .record import Step

__all__ = [
    "DEFAULT_POLICY",
    "MODES",
    "POLICIES",
    "REQUEST_KEYS",
    "SOFT_SAMPLING_DEFAULTS",
    "Capabilities",
    "ColdStop",
    "InvalidValueError",
    "RoutingError",
    "RoutingParams",
    "Step",
    "UnknownKeyError",
    "UnsupportedModeError",
    "parse",
    "parse_routing",
]
