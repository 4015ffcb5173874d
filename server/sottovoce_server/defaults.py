"""A model's own routing defaults: found and checked at start, used where a request says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sottovoce_router import RoutingError, parse_routing

FILE_NAME = "sottovoce.json"  # in a model's directory


def defaults_path(flag: str, model: str) -> str:
    """The file that holds, empty where there is none: the flag's, or the one beside the weights."""
    beside = Path(model) / FILE_NAME
    return flag or (str(beside) if beside.is_file() else "")


def read_defaults(path: str) -> dict[str, Any]:
    """The `routing` object of a defaults file; nothing for an empty path.

    Raises:
        ValueError: the file is missing or wrong; the message names it, the key and the remedy.
    """
    if not path:
        return {}
    try:
        routing = json.loads(Path(path).read_text())["routing"]
        parse_routing(routing)
    except (OSError, ValueError, KeyError, TypeError, RoutingError) as error:
        remedy = 'give a JSON file with an object "routing", as `sottovoce tune` writes it'
        raise ValueError(f"--routing-defaults {path}: {error!r}; {remedy}") from error
    if "policy" in routing:
        raise ValueError(
            f"--routing-defaults {path}: routing.policy belongs to a mode; leave it out"
        )
    return dict(routing)
