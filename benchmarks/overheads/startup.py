"""Where the time goes until `sottovoce serve` is ready: seconds and processor seconds by phase."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx
import psutil

from sottovoce_server.demo import free_port

from ..rows import append

# A phase ends with the first line that holds its words; the last, HTTP, when /ready answers.
PHASES = {
    "imports, arguments": "non-default args:",
    "engine process, its imports": "Initializing a V1 LLM engine",
    "worker": "Loading model from scratch",
    "model": "Model loading took",
    "model state": "Warming up model for the compilation",
    "compilation or its cache, warm-up": "Warming up done",
    "KV cache, kernels": "init engine (profile, create kv cache, warmup model) took",
}
LAST_PHASE = "HTTP"
_TIMEOUT_S = 1800.0

Reading = tuple[float, float]  # seconds since the start, and processor seconds of all processes


@dataclass(frozen=True)
class Phase:
    """One phase of a start, in seconds and in processor seconds of the server's processes."""

    name: str
    seconds: float
    cpu_seconds: float


def marks(lines: Iterable[str], read: Callable[[], Reading]) -> Iterator[tuple[str, Reading]]:
    """The end of every phase that a log tells of; one that it leaves out falls to the next."""
    left = list(PHASES.items())
    for line in lines:
        for i, (name, words) in enumerate(left):
            if words in line:
                left = left[i + 1 :]
                yield name, read()
                break


def phases(ends: Iterable[tuple[str, Reading]]) -> list[Phase]:
    """What lies between the ends of phases."""
    found, before = [], (0.0, 0.0)
    for name, end in ends:
        found.append(Phase(name, end[0] - before[0], end[1] - before[1]))
        before = end
    return found


class _Clock:
    """Reads the time since a process was started, and what it and its children have computed."""

    def __init__(self, pid: int) -> None:
        self._process, self._started = psutil.Process(pid), time.monotonic()

    def read(self) -> Reading:
        used = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            # Its own, and what children that it has waited for had used.
            with suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])
        return time.monotonic() - self._started, used


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready after {_TIMEOUT_S:.0f} s, or stopped")


def start(model: str, *flags: str) -> list[Phase]:
    """Start a server, wait until it is ready, stop it; returns its phases.

    Raises:
        RuntimeError: if it does not become ready.
    """
    port = free_port()
    command = [sys.executable, "-m", "sottovoce_server", "serve", model, "--port", str(port)]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    clock, ends = _Clock(process.pid), list[tuple[str, Reading]]()
    lines = process.stdout
    reader = threading.Thread(target=lambda: ends.extend(marks(lines, clock.read)))
    reader.start()
    try:
        _wait_until_ready(process, port)
        last = clock.read()
    finally:
        process.terminate()
        process.wait(timeout=120)
        reader.join()
    return phases([*ends, (LAST_PHASE, last)])


def bench(model: str, rounds: int) -> None:
    """A row for every phase and for the whole, of starts after one that warms the caches."""
    print("a first start warms the caches", flush=True)
    start(model)
    starts = [start(model) for _ in range(rounds)]
    for phases in zip(*starts, strict=True):
        if len({phase.name for phase in phases}) > 1:
            raise RuntimeError(f"starts had other phases: {[phase.name for phase in phases]}")
        _row(model, phases[0].name, list(phases))
    _row(model, "all", [
        Phase("all", sum(p.seconds for p in found), sum(p.cpu_seconds for p in found))
        for found in starts
    ])  # fmt: skip


def _row(model: str, name: str, found: list[Phase]) -> None:
    cpu = sorted(round(phase.cpu_seconds, 2) for phase in found)
    seconds = [phase.seconds for phase in found]
    append("startup", {"model": model, "phase": name}, "until ready", "s", seconds, cpu_seconds=cpu)
    print(
        f"{name:<34} {sorted(seconds)[len(seconds) // 2]:7.2f} s, CPU {cpu[len(cpu) // 2]:7.2f} s"
    )
