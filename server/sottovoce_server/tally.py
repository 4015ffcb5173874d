"""What a request's engine outputs said about its routing, kept until the response is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce_router.markers import MarkerIds
from sottovoce_router.phases import count_thinking
from sottovoce_router.record import Step

# vLLM numbers the requests of a list of prompts: cmpl-ID-1 in completions, chatcmpl-ID_1 in chat.
_PROMPT_NUMBER = re.compile(r"[-_](\d+)$")
_UNFINISHED = frozenset({None, "abort", "error"})  # among vLLM's finish reasons


@dataclass
class ChoiceTally:
    """One choice of a response."""

    token_ids: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shown: int = 0  # steps that a streamed chunk has carried
    is_finished: bool = False  # by its own end, or a limit on its tokens
    held: int = 0  # bytes of the ledger

    @property
    def thinking(self) -> list[Step]:
        """The recorded steps of the thinking phase that wrote a token."""
        return [step for step in self.steps if step.route not in (None, "latent")]

    @property
    def num_latent(self) -> int:
        """Latent steps, which come before every token."""
        return sum(step.route == "latent" for step in self.steps)

    @property
    def num_read(self) -> int:
        """Generated positions that the model has read: the last token is read by no one."""
        return max(len(self.token_ids) - 1, 0)


@dataclass
class Tally:
    """Watches a request's outputs (see `sottovoce_router.observe`)."""

    markers: MarkerIds | None
    decode: Callable[[Sequence[int]], str]
    num_layers: int
    num_prompts: int = 1
    num_per_prompt: int = 1
    hold: Callable[[int], None] = lambda _: None  # told of bytes of the ledger, taken or given back
    choices: dict[int, ChoiceTally] = field(default_factory=dict)
    prompts: dict[int, list[int]] = field(default_factory=dict)

    def watch(self, output: Any) -> None:
        """Take in one RequestOutput: the only one, or one with what is new."""
        first = self._prompt_number(output.request_id) * self.num_per_prompt
        for completion in output.outputs:
            index = first + completion.index
            choice = self.choices.setdefault(index, ChoiceTally())
            if index not in self.prompts:
                self.prompts[index] = list(output.prompt_token_ids or [])
            choice.token_ids.extend(completion.token_ids)
            fresh = getattr(completion, "routing", None) or []
            choice.steps.extend(fresh)
            choice.is_finished = completion.finish_reason not in _UNFINISHED
            if not choice.held and any(step.takes_slot for step in fresh):
                self._set_held(choice, getattr(completion, "ledger_bytes", 0))
            if completion.finish_reason is not None:
                self._set_held(choice, 0)

    def _set_held(self, choice: ChoiceTally, num_bytes: int) -> None:
        if num_bytes != choice.held:
            self.hold(num_bytes - choice.held)
            choice.held = num_bytes

    def let_go(self) -> None:
        """The request has ended, however it did."""
        for choice in self.choices.values():
            self._set_held(choice, 0)

    def _prompt_number(self, request_id: str) -> int:
        # The id of a single prompt may hold a client's X-Request-Id, which ends as it likes.
        found = _PROMPT_NUMBER.search(request_id) if self.num_prompts > 1 else None
        return int(found[1]) if found else 0

    def usage(self) -> dict[str, int]:
        """Totals over the choices, by kind of step; nothing where no output was seen."""
        if not self.choices:
            return {}
        routes: Counter[str] = Counter()
        reasoning = layers = skipped = switches = 0
        for index, choice in self.choices.items():
            layers += choice.num_read * self.num_layers
            skipped += sum(step.num_skipped for step in choice.steps)
            thinking = [s.route for s in choice.steps if s.route is not None]
            routes.update(thinking)
            reasoning += self._reasoning_length(index)
            switches += sum({a, b} == {"soft", "discrete"} for a, b in pairwise(thinking))
        return {
            "reasoning_tokens": reasoning,
            "soft_steps": routes["soft"],
            "discrete_steps": routes["discrete"],
            "forced_steps": routes["forced"],
            "latent_steps": routes["latent"],
            "switches": switches,
            "layers_run": layers - skipped,
            "layers_skipped": skipped,
        }

    def _reasoning_length(self, index: int) -> int:
        choice = self.choices[index]
        return len(choice.thinking) or self._count_thinking(index) - choice.num_latent

    def finished_lengths(self) -> list[int]:
        """Reasoning tokens of each choice that has finished."""
        return [
            self._reasoning_length(i) for i, choice in self.choices.items() if choice.is_finished
        ]

    def confidences(self) -> NDArray[np.float64]:
        """p_max of the steps at which the router chose; a forced step's says nothing of the model."""
        steps = (step for choice in self.choices.values() for step in choice.steps)
        chosen = [step.p_max for step in steps if step.route in ("soft", "discrete")]
        return np.minimum(chosen, 1.0)  # float32 sums end a rounding error past the bound

    def forced_closes(self) -> Counter[str]:
        """How often the end marker was forced, by reason; one of several tokens counts once."""
        reasons: Counter[str] = Counter()
        for choice in self.choices.values():
            last = None
            for step in choice.thinking:
                if step.cause is not None and last != "forced":
                    reasons[step.cause] += 1
                last = step.route
        return reasons

    def num_replays(self) -> int:
        """How often a choice came back from a preemption."""
        slots = [sum(step.takes_slot for step in c.steps) for c in self.choices.values()]
        return sum(max(taken - 1, 0) for taken in slots)

    def _count_thinking(self, index: int) -> int:
        if self.markers is None:
            return 0
        tokens = self.choices[index].token_ids
        return count_thinking(self.prompts[index], tokens, self.markers)

    @property
    def lacks_routes(self) -> bool:
        """Whether a choice thought without a record: in a soft mode, the ledger had no row left."""
        return any(
            all(step.route is None for step in choice.steps) and self._count_thinking(index) > 0
            for index, choice in self.choices.items()
        )

    def take_trace(self, index: int) -> list[dict[str, Any]]:
        """The steps of a choice that no chunk has carried yet, in order."""
        choice = self.choices.get(index)
        if choice is None:
            return []
        fresh = choice.steps[choice.shown :]
        choice.shown = len(choice.steps)
        return [self._render(step) for step in fresh if step.route is not None]

    def _render(self, step: Step) -> dict[str, Any]:
        shown = {
            "token_id": step.token_id,
            "token": self.decode([step.token_id]),
            "route": step.route,
            "p_max": min(step.p_max, 1.0),  # float32 sums end a rounding error past the bound
            "entropy": max(step.entropy, 0.0),
            "alternatives": [
                {"token_id": token, "token": self.decode([token]), "weight": weight}
                for token, weight in step.alternatives
            ],
        }
        return shown if step.text is None else shown | {"step": self.decode(step.text)}
