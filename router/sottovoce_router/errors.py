"""What can be wrong with a routed request: a stable code, the key, the value, and the remedy."""

from __future__ import annotations

from typing import Any


class RoutingError(ValueError):
    """A request that cannot be served as asked; refused at admission."""

    def __init__(self, code: str, param: str, value: Any, remedy: str) -> None:
        super().__init__(f"{param}: {value!r} {remedy}")
        self.code, self.param, self.value, self.remedy = code, param, value, remedy


class InvalidValueError(RoutingError):
    """A value of the wrong type or out of its range."""

    def __init__(self, param: str, value: Any, remedy: str) -> None:
        super().__init__("invalid_value", param, value, remedy)


class UnknownKeyError(RoutingError):
    """A key that nothing reads."""

    def __init__(self, param: str, known: list[str]) -> None:
        super().__init__(
            "unknown_parameter", param, param.rsplit(".", 1)[-1], f"is unknown; use one of {known}"
        )


class UnsupportedModeError(RoutingError):
    """A mode that this model, or this engine as it was started, does not serve."""

    def __init__(self, value: Any, reason: str, param: str = "reasoning_mode") -> None:
        super().__init__("unsupported_reasoning_mode", param, value, reason)


class PluginError(RuntimeError):
    """vLLM is not what the plugin was written for."""
