"""Our part of vLLM's `--additional-config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PluginError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def ours(additional_config: Any) -> dict[str, Any]:
    """It, from the whole; empty where there is none."""
    extra = additional_config
    found = extra.get("sottovoce") if isinstance(extra, dict) else None
    return found or {}


def serves_shortcuts(additional_config: Any) -> bool:
    """Whether shortcut weights, where a model has them, are to be served."""
    return bool(ours(additional_config).get("shortcuts", True))


def answer_tokens(additional_config: Any) -> int:
    """Tokens that thinking leaves for the answer where a request does not say; 0 for none."""
    found = ours(additional_config).get("min_answer_tokens", 0)
    if not isinstance(found, int) or found < 0:
        raise PluginError(f"min_answer_tokens: {found!r} must be a number, 0 or more")
    return found


def size_in_bytes(config: VllmConfig, key: str, default: float) -> float:
    """A size of ours, which is given in GiB."""
    gib = ours(config.additional_config).get(key, default)
    if not isinstance(gib, int | float) or not gib >= 0:
        raise PluginError(f"{key}: {gib!r} must be a number of GiB, 0 or more")
    return float(gib) * 2**30
