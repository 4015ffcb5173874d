"""Maths on tensors: the routing ops, their references, and a CPU engine for vLLM's own kernels."""

from .confidence import confidence
from .decide import decide
from .layout import (
    MAX_STOP_IDS,
    MAX_TOP_N,
    RECORD_EXTRA,
    Cause,
    Confidence,
    FloatParam,
    IntParam,
    LedgerTensors,
    Markers,
    Phase,
    Policy,
    Record,
    Route,
    Slots,
    State,
)
from .mix import mix
from .mix_full import mix_full
from .warm_up import warm_up

__all__ = [
    "MAX_STOP_IDS",
    "MAX_TOP_N",
    "RECORD_EXTRA",
    "Cause",
    "Confidence",
    "FloatParam",
    "IntParam",
    "LedgerTensors",
    "Markers",
    "Phase",
    "Policy",
    "Record",
    "Route",
    "Slots",
    "State",
    "confidence",
    "decide",
    "mix",
    "mix_full",
    "warm_up",
]
