"""One generated token as both sides of a comparison see it: the engine's record and the loop's."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """A recorded token and what decided it; outside thinking `route` is None and the rest is zero."""

    token: int
    route: str | None = None  # soft, discrete, forced or latent
    p_max: float = 0.0
    entropy: float = 0.0  # nats
    weights: dict[int, float] = field(default_factory=dict)
    fed: dict[int, float] = field(default_factory=dict, compare=False)  # of the loop's soft steps
    takes_slot: bool = field(default=False, compare=False)  # of the engine's steps
    num_skipped: int = 0  # layers
    text: tuple[int, ...] | None = field(default=None, compare=False)  # of the engine's latents


def routes_of(steps: list[Step]) -> list[str | None]:
    """The route of every step."""
    return [step.route for step in steps]
