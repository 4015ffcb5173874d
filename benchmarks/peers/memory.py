"""Peak resident memory of an engine: its process and all below it, a shared page shared out."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil

_EVERY_S = 0.5


def resident_bytes(pid: int) -> int:
    """Proportional set sizes of a process and its descendants: a page that n of them map counts once.

    A page that processes outside map as well, of a library for example, counts in its share.
    """
    family, total = [psutil.Process(pid)], 0
    with suppress(psutil.NoSuchProcess):
        family += family[0].children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            total += process.memory_full_info().pss
    return total


class Peak:
    """The most that is resident while the block runs, looked at twice a second, before and after."""

    def __init__(self, pid: int) -> None:
        self._pid, self._done, self._most = pid, threading.Event(), 0
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def mib(self) -> float:
        """MiB seen at most."""
        return self._most / 2**20

    def _look(self) -> None:
        self._most = max(self._most, resident_bytes(self._pid))

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._look()

    def __enter__(self) -> Peak:
        self._look()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        with suppress(psutil.NoSuchProcess):  # what ended it is raised anyhow
            self._look()
