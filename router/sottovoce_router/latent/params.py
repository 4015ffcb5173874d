"""A request's `latent` object: parsed, validated, completed by what the model's manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..values import integer
from .manifest import Manifest


@dataclass(frozen=True)
class LatentParams:
    """How many latent steps come before the text; of a method with a stop head, at most."""

    method: str
    steps: int

    @property
    def mode(self) -> str:
        """The reasoning mode that this is."""
        return "latent"

    def as_dict(self) -> dict[str, Any]:
        """The object of a request that spells everything out."""
        return {"steps": self.steps}


def parse_latent(table: Mapping[str, Any], manifest: Manifest) -> LatentParams:
    """Read the object; the manifest decides of a key that is left out.

    Args:
        table: an object without unknown keys.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    steps = table.get("steps")
    if steps is None:
        steps = manifest.default_steps
    found = integer("latent.steps", steps, 1, manifest.max_steps)
    return LatentParams(manifest.method, found)
