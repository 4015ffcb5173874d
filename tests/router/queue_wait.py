"""Says what a process that waits for a shared-memory queue does: its naps and its polls."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest import mock

from vllm.distributed.device_communicators import shm_broadcast
from vllm.plugins import load_general_plugins

from scripts import say


def main() -> None:
    """Wait right after a read, then a while after one, then long after one."""
    load_general_plugins()
    naps: list[float] = []
    polls: list[int] = []
    condition = SimpleNamespace(
        is_reader=True,
        last_read=time.monotonic() + 0.0005,
        busy_loop_s=1.0,
        poller=SimpleNamespace(poll=lambda timeout: polls.append(timeout) or []),
        read_cancel_socket=None,
        local_notify_socket=None,
    )
    wait = shm_broadcast.SpinCondition.wait
    with (
        mock.patch.object(time, "sleep", naps.append),
        mock.patch.object(shm_broadcast, "sched_yield") as spins,
    ):
        wait(condition, timeout_ms=7)
        condition.last_read -= 0.1
        wait(condition, timeout_ms=7)
        condition.last_read -= 120.0
        wait(condition, timeout_ms=7)
    say({"naps": naps, "yields": spins.call_count, "polls": polls})


if __name__ == "__main__":
    main()
