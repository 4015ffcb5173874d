"""Load profiles: how requests arrive, at several levels of pressure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """How the requests of one run arrive: closed loop if `concurrency` is set, else open."""

    name: str
    level: float  # what a profile varies
    concurrency: int | None = None  # requests in flight
    rate: float = 0.0  # mean arrivals per second; of a ramp, at its end
    burstiness: float = 1.0  # shape of gamma-distributed gaps: 1 is Poisson, below it bursts
    is_ramp: bool = False

    def ramp_s(self, num_requests: int) -> float:
        """Seconds that a ramp takes: its mean rate is half of that at its end."""
        return 2 * num_requests / self.rate


@dataclass(frozen=True)
class Profile:
    """Loads of one kind."""

    about: str
    unit: str
    load: Callable[[float], Load]  # of a level
    levels: Sequence[float]

    def loads(self, levels: Sequence[float] | None) -> list[Load]:
        """A load for every level, the profile's own where none is given."""
        return [self.load(level) for level in levels or self.levels]


def _closed(level: float) -> Load:
    return Load(f"{level:g}-in-flight", level, concurrency=int(level))


def _poisson(level: float) -> Load:
    return Load(f"poisson-{level:g}-per-s", level, rate=level)


def _ramp(level: float) -> Load:
    return Load(f"ramp-to-{level:g}-per-s", level, rate=level, is_ramp=True)


def _bursts(level: float) -> Load:
    return Load(f"bursts-{level:g}-per-s", level, rate=level, burstiness=0.1)


PROFILES: dict[str, Profile] = {
    "closed": Profile("a fixed number in flight", "requests in flight", _closed, (4, 16, 32)),
    "poisson": Profile("Poisson arrivals", "requests per second", _poisson, (4, 8, 16)),
    "ramp": Profile("a growing rate", "requests per second at the end", _ramp, (8, 16)),
    "bursts": Profile("gamma gaps of shape 0.1", "requests per second", _bursts, (4, 8)),
}
