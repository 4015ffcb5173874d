"""Checks of single values that a client sent: each returns the value typed, or names what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .errors import InvalidValueError, UnknownKeyError


def number(param: str, value: Any, accepts: Callable[[float], bool], remedy: str) -> float:
    """A finite number that `accepts` holds for."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Also false for NaN, infinity, and integers that no float holds.
    if not is_number or not abs(value) <= sys.float_info.max or not accepts(value):
        raise InvalidValueError(param, value, remedy)
    return float(value)


def integer(param: str, value: Any, low: int, high: int) -> int:
    """An integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidValueError(param, value, f"must be an integer from {low} to {high}")
    return value


def one_of(param: str, value: Any, options: tuple[str, ...]) -> str:
    """One of some names."""
    if not isinstance(value, str) or value not in options:
        raise InvalidValueError(param, value, f"must be one of {list(options)}")
    return value


def flag(param: str, value: Any) -> bool:
    """True or false."""
    # vllm_xargs carries numbers and strings only, so 0 and 1 stand for false and true there.
    if value not in (True, False):
        raise InvalidValueError(param, value, "must be true or false")
    return bool(value)


def share(param: str, value: Any) -> float:
    """A number from 0 to 1."""
    return number(param, value, lambda x: 0 <= x <= 1, "must be a number from 0 to 1")


def temperature(param: str, value: Any) -> float:
    """As vLLM's own temperature: the reciprocal of a much lower one is no float32."""
    return number(param, value, lambda x: 0.01 <= x <= 100, "must be from 0.01 to 100")


def mapping(param: str, value: Any) -> dict[str, Any]:
    """An object, which may be the text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidValueError(param, value, "must be a JSON object") from error
    if not isinstance(value, dict):
        raise InvalidValueError(param, value, "must be an object")
    return value


def refuse_unknown(param: str, values: Mapping[str, Any], known: list[str]) -> None:
    """Raise for a key that is none of an object's."""
    for key in values:
        if key not in known:
            raise UnknownKeyError(f"{param}.{key}", known)
