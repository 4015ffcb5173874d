"""The vLLM plugin: parameters, policies, model state, sampler, ledger, and their hooks."""

from .capabilities import Capabilities
from .errors import InvalidValueError, RoutingError, UnknownKeyError, UnsupportedModeError
from .params import (
    BUDGET_KEY,
    REQUEST_KEYS,
    SOFT_SAMPLING_DEFAULTS,
    RoutingParams,
    parse,
    parse_routing,
)
from .policies import DEFAULT_POLICY, MODES, POLICIES, ColdStop
from .record import CAUSE_NAMES, Step

__all__ = [
    "BUDGET_KEY",
    "CAUSE_NAMES",
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
