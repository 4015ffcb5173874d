"""The processor time that the server's books take, a step and a request: tally, trace, metrics."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from sottovoce_router import parse
from sottovoce_router.record import Step
from sottovoce_server.account import Account
from sottovoce_server.metrics import Metrics
from sottovoce_server.tally import Tally

from ..rows import append

_STEPS, _TOP_N = 1000, 10


def _outputs() -> list[Any]:
    """A request's outputs, a step each, as an engine streams them."""
    alternatives = tuple((i, 1.0 / _TOP_N) for i in range(_TOP_N))
    outputs = []
    for i in range(_STEPS):
        step = Step(i, "soft" if i % 3 else "discrete", 0.6, 1.2, alternatives)
        completion = SimpleNamespace(
            index=0, token_ids=[i], routing=[step], ledger_bytes=1, finish_reason=None
        )
        outputs.append(SimpleNamespace(
            request_id="r", outputs=[completion], prompt_token_ids=[1, 2]
        ))  # fmt: skip
    outputs[-1].outputs[0].finish_reason = "stop"
    return outputs


def _tally() -> Tally:
    return Tally(markers=None, decode=str, num_layers=6)


def _watch(outputs: list[Any]) -> Tally:
    tally = _tally()
    for output in outputs:
        tally.watch(output)
    return tally


def _trace(outputs: list[Any]) -> Tally:
    tally = _tally()
    for output in outputs:
        tally.watch(output)
        tally.take_trace(0)
    return tally


def cpu_us_per_step(rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time a step, of 1,000: watched, traced too, and entered at its end."""
    outputs = _outputs()
    account = Account(Metrics(CollectorRegistry()))
    params = parse({"reasoning_mode": "routed"})
    translation: Any = SimpleNamespace(params=params, arm="treatment", num_choices=1)
    found: dict[str, list[float]] = {"watch": [], "watch and trace": [], "enter": []}
    for _ in range(rounds):
        marks = [time.process_time()]
        tally = _watch(outputs)
        marks.append(time.process_time())
        _trace(outputs)
        marks.append(time.process_time())
        account.close(translation, tally, "ok")
        marks.append(time.process_time())
        for name, start, end in zip(found, marks, marks[1:], strict=False):
            found[name].append((end - start) / _STEPS * 1e6)
    return found


def bench(rounds: int) -> None:
    """A row for each."""
    for name, values in cpu_us_per_step(rounds).items():
        append("books", {"steps": _STEPS, "top_n": _TOP_N}, name, "us of CPU a step", values)
        print(f"{name}: {sorted(values)[len(values) // 2]:.2f} us of CPU a step")
