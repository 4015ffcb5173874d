"""What is compared: seconds of one run over those of another, in pairs that take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine import Engine
from ..loads import GREEDY, LATENT, OPTIONS, PROMPT, ROUTED, SAMPLING, TRACED
from ..pairing import REST_S, Pair, paired


@dataclass(frozen=True)
class Case:
    """An engine's run over another's, each of the same number of tokens."""

    over: tuple[str, Mapping[str, Any]]  # engine kind and sampling parameters
    under: tuple[str, Mapping[str, Any]]


# Seconds of V1 over ours are our throughput over that of V1.
CASES: dict[str, Case] = {
    "throughput, explicit over vLLM's V1 runner, greedy": Case(
        ("v1", GREEDY), ("sottovoce", GREEDY)
    ),
    "throughput, explicit over vLLM's V1 runner, sampled": Case(
        ("v1", SAMPLING), ("sottovoce", SAMPLING)
    ),
    "step, latent over explicit": Case(("sottovoce", LATENT), ("sottovoce", SAMPLING)),
    "step, routed over explicit": Case(("sottovoce", ROUTED), ("sottovoce", SAMPLING)),
    "step, latent traced over untraced": Case(("sottovoce", TRACED), ("sottovoce", LATENT)),
}


class Bench:
    """Measures cases on engines that start when they are first asked for."""

    def __init__(self, model: str, dtype: str, concurrent: int, steps: int) -> None:
        self._model, self._dtype = model, dtype
        self._lengths = [steps] * concurrent
        self._engines: dict[str, Engine] = {}

    def _seconds(self, kind: str, sampling: Mapping[str, Any]) -> float:
        if kind not in self._engines:
            self._engines[kind] = Engine(kind, self._model, dtype=self._dtype, **OPTIONS)
        return self._engines[kind].run(PROMPT, self._lengths, sampling)

    def measure(self, case: Case, rounds: int) -> list[Pair]:
        """Seconds of both sides of a case."""
        kinds = {case.over[0], case.under[0]}
        return paired(
            lambda: self._seconds(*case.over),
            lambda: self._seconds(*case.under),
            rounds,
            REST_S if len(kinds) > 1 else 0.0,
        )

    def close(self) -> None:
        """Stop the engines."""
        for engine in self._engines.values():
            engine.close()
