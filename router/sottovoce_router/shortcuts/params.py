"""A request's `shortcuts` object: parsed, validated, completed by what the model's manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InvalidValueError
from ..latent.manifest import MAX_STEPS
from ..values import integer, share
from .manifest import Manifest


@dataclass(frozen=True)
class ShortcutParams:
    """Whether layers are skipped, and how many latent steps come before the text."""

    depth: float | None  # a layer whose w is above it is skipped; None skips none
    steps: int

    @property
    def mode(self) -> str:
        """The reasoning mode that this is."""
        return "latent" if self.steps else "explicit"

    def as_dict(self) -> dict[str, Any]:
        """The object of a request that spells everything out."""
        return asdict(self)


def _steps(value: Any, mode: str | None) -> int:
    found = 0 if value is None else integer("shortcuts.steps", value, 0, MAX_STEPS)
    if mode == "explicit" and found:
        raise InvalidValueError(
            "shortcuts.steps", found, "is for reasoning_mode latent; send 0, or leave the mode out"
        )
    if mode == "latent" and not found:
        remedy = f"must be from 1 to {MAX_STEPS} in reasoning_mode latent; or leave the mode out"
        raise InvalidValueError("shortcuts.steps", value, remedy)
    return found


def parse_shortcuts(
    table: Mapping[str, Any], mode: str | None, manifest: Manifest
) -> ShortcutParams:
    """Read the object; of a key that is left out the manifest decides, and null turns it off.

    Args:
        table: an object without unknown keys.
        mode: the reasoning mode that the request names, explicit or latent, or None.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    default = 0 if mode == "explicit" else manifest.steps
    depth = table.get("depth", manifest.depth)
    return ShortcutParams(
        depth=None if depth is None else share("shortcuts.depth", depth),
        steps=_steps(table.get("steps", default), mode),
    )
