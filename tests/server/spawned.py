"""Says what the garbage collector of a spawned process is set to, as an engine's would be."""

from __future__ import annotations

import gc
from multiprocessing import get_context

from scripts import say
from sottovoce_server.__main__ import main

__all__ = ["main", "tell"]


def tell() -> None:
    """In the child."""
    say(gc.get_threshold())


if __name__ == "__main__":
    child = get_context("spawn").Process(target=tell)
    child.start()
    child.join()
