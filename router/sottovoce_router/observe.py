"""Lets whoever handles a request in this process watch its outputs as they come from the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

# Called with every RequestOutput of the requests made in this context.
observer: ContextVar[Callable[[Any], None] | None] = ContextVar("sottovoce_observer", default=None)
