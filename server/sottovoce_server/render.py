"""What vLLM's responses gain: usage details, effective routing, trace, `reasoning_content`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sottovoce_router import RoutingParams

from .errors import complete_event
from .tally import Tally
from .translate import Translation

_TYPED = frozenset({"responses", "messages"})  # events with a `type`, and no choices
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Renderer:
    """Adds to one response, whole or streamed."""

    def __init__(self, translation: Translation, tally: Tally) -> None:
        self._is_typed = translation.endpoint in _TYPED
        self._details = "output_tokens_details" if self._is_typed else "completion_tokens_details"
        self._translation = translation
        self._tally = tally
        self._num_open = translation.num_choices
        self.has_failed = False  # after the status was sent

    def whole(self, body: bytes) -> bytes:
        """A non-streamed response."""
        data = json.loads(body)
        if not isinstance(data, dict):  # vLLM answers `null` to a client that has gone
            return body
        for choice in data.get("choices") or []:
            self._alias_reasoning(choice.get("message"))
            if self._translation.params.trace:
                choice["routing"] = {"trace": self._tally.take_trace(choice.get("index", 0))}
        self._summarise(data)
        if self._is_typed and self._translation.params.trace:
            data["routing"]["trace"] = self._tally.take_trace(0)
        return json.dumps(data).encode()

    def event(self, data: dict[str, Any]) -> None:
        """One streamed event, changed in place."""
        is_error = isinstance(data.get("error"), dict) or data.get("type") == "response.failed"
        self.has_failed = self.has_failed or is_error
        if self._is_typed:
            self._typed_event(data)
            return
        choices = data.get("choices") or []
        for choice in choices:
            self._alias_reasoning(choice.get("delta"))
            self._add_new_steps(choice, choice.get("index", 0))
            self._num_open -= choice.get("finish_reason") is not None
        is_usage = not choices and bool(data.get("usage"))
        is_last = bool(choices) and self._num_open == 0 and not self._translation.includes_usage
        if is_usage or is_last:
            self._summarise(data)

    def _typed_event(self, data: dict[str, Any]) -> None:
        self._add_new_steps(data, 0)
        kind = data.get("type")
        if kind in _LAST_EVENTS and isinstance(data.get("response"), dict):
            self._summarise(data["response"])
        elif kind == "message_delta":
            self._summarise(data)

    def _summarise(self, data: dict[str, Any]) -> None:
        params = effective_params(self._translation.params, self._tally)
        routing = _routing(params, self._translation)
        data["routing"] = {**routing, **(data.get("routing") or {})}
        usage, ours = data.get("usage"), self._tally.usage()
        if isinstance(usage, dict) and ours:
            usage[self._details] = {**(usage.get(self._details) or {}), **ours}

    def _add_new_steps(self, holder: dict[str, Any], index: int) -> None:
        if self._translation.params.trace and (steps := self._tally.take_trace(index)):
            holder["routing"] = {"trace": steps}

    @staticmethod
    def _alias_reasoning(message: Any) -> None:
        """Older clients read `reasoning_content` where vLLM writes `reasoning`."""
        if isinstance(message, dict) and "reasoning" in message:
            message.setdefault("reasoning_content", message["reasoning"])


def effective_params(params: RoutingParams, tally: Tally) -> RoutingParams:
    """What was done: the engine runs a request that finds no room in the ledger as explicit."""
    fell_back = params.is_soft_capable and tally.lacks_routes
    return RoutingParams() if fell_back else params


def _routing(p: RoutingParams, translation: Translation) -> dict[str, Any]:
    reads_threshold = p.is_soft_capable and "threshold" in p.spec.reads
    found = {
        "mode": p.mode,
        "policy": p.method,
        "threshold": p.threshold if reads_threshold else None,
        "arm": translation.arm,
        "thinking_budget": translation.thinking_budget,
    }
    return found | {key: trained.as_dict() for key, trained in p.trained.items()}


def render_lines(lines: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Whole lines of an event stream, with every JSON object in them changed."""
    return b"\n".join(_render_line(line, change) for line in lines.split(b"\n"))


def _render_line(line: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    if not line.startswith(b"data: {"):
        return line
    data = json.loads(line[6:])
    complete_event(data)
    change(data)
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(
        errors="backslashreplace"  # half a surrogate pair, as JSON escapes it
    )


def with_modes(
    body: bytes,
    modes: list[str],
    routing_defaults: Mapping[str, Any],
    trained: Mapping[str, Mapping[str, Any] | None],
) -> bytes:
    """The list of models, each with its modes, its routing defaults and what it was trained for."""
    data = json.loads(body)
    for card in data["data"]:
        card["reasoning_modes"] = modes
        card["routing_defaults"] = routing_defaults
        card.update(trained)
    return json.dumps(data).encode()
