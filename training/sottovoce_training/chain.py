"""A solver's chain of thought: its steps, and which earlier steps each one uses."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One line of thought."""

    text: str
    uses: tuple[int, ...] = ()  # indices of the earlier steps whose results this one takes


@dataclass
class Chain:
    """Steps in the order in which they are written, a directed acyclic graph, and the answer."""

    steps: list[Step] = field(default_factory=list)
    answer: str = ""

    def add(self, text: str, *uses: int | None) -> int:
        """Append a step and return its index; a use of None stands for a given of the problem.

        Raises:
            ValueError: if a step is used that is not there yet.
        """
        known = tuple(sorted({use for use in uses if use is not None}))
        if known and not 0 <= known[0] <= known[-1] < len(self.steps):
            raise ValueError(f"uses: {known} must name steps below {len(self.steps)}")
        self.steps.append(Step(text, known))
        return len(self.steps) - 1

    @property
    def text(self) -> str:
        """The thought, a line a step."""
        return "\n".join(step.text for step in self.steps)
