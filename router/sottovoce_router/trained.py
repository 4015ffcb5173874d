"""What a request asks for that its model must be trained for: `shortcuts` or `latent`, one at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidValueError
from .latent.manifest import Manifest as LatentManifest
from .latent.params import LatentParams, parse_latent
from .policies import MODES
from .shortcuts.manifest import Manifest
from .shortcuts.params import ShortcutParams, parse_shortcuts
from .values import mapping, one_of, refuse_unknown

TRAINED_KEYS = ("shortcuts", "latent")
Trained = ShortcutParams | LatentParams


def _own_table(
    given: Mapping[str, Any], key: str, known: list[str], modes: tuple[str, ...]
) -> dict[str, Any]:
    """The object of a request, in which nothing else says how to think."""
    for other in ("routing", *TRAINED_KEYS):
        if other != key and other in given:
            remedy = f"is not served together with {key}; leave out one of them"
            raise InvalidValueError(other, given[other], remedy)
    mode = given.get("reasoning_mode")
    if mode is not None and one_of("reasoning_mode", mode, MODES) not in modes:
        remedy = f"is not served together with {key}; use {' or '.join(modes)}, or leave it out"
        raise InvalidValueError("reasoning_mode", mode, remedy)
    table = mapping(key, given.get(key, {}))
    refuse_unknown(key, table, known)
    return table


def _shortcuts(given: Mapping[str, Any], manifest: Manifest | None) -> ShortcutParams:
    if manifest is None:
        remedy = "needs a model with shortcut weights; leave it out"
        raise InvalidValueError("shortcuts", given["shortcuts"], remedy)
    table = _own_table(given, "shortcuts", ["depth", "steps"], ("explicit", "latent"))
    return parse_shortcuts(table, given.get("reasoning_mode"), manifest)


def _latent(given: Mapping[str, Any], manifest: LatentManifest | None) -> LatentParams:
    if manifest is None:
        remedy = "needs a latent-trained model; leave it out"
        raise InvalidValueError("latent", given["latent"], remedy)
    if "routing" in given and "latent" not in given:
        remedy = "is not read by this model's own latent steps; name a policy, or leave it out"
        raise InvalidValueError("routing", given["routing"], remedy)
    return parse_latent(_own_table(given, "latent", ["steps"], ("latent",)), manifest)


def _takes_own_steps(given: Mapping[str, Any], manifest: LatentManifest | None) -> bool:
    """Whether a request is for the latent steps of the model's own, rather than for a policy."""
    if "latent" in given or manifest is None or given.get("reasoning_mode") != "latent":
        return "latent" in given
    return mapping("routing", given.get("routing", {})).get("policy") is None


def parse_trained(
    given: Mapping[str, Any], manifest: Manifest | None, latent: LatentManifest | None
) -> dict[str, Trained]:
    """What there is of it in a request, by its key.

    Args:
        given: the request's keys that are not null.
        manifest: of the model's shortcuts, None where it has none.
        latent: of a latent-trained model, None for any other.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    if "shortcuts" in given:
        return {"shortcuts": _shortcuts(given, manifest)}
    return {"latent": _latent(given, latent)} if _takes_own_steps(given, latent) else {}
