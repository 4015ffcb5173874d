"""The layouts that are known, by the name that --format has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .coconut import is_coconut, read_coconut
from .codi import is_codi, read_codi
from .own_run import is_own_run, read_own_run
from .parts import Checkpoint, ConvertError, Parts, some


@dataclass(frozen=True)
class Layout:
    """How a checkpoint is recognised by the names of its tensors, and read."""

    fits: Callable[[set[str]], bool]
    read: Callable[[Checkpoint], Parts]


LAYOUTS = {
    "codi": Layout(is_codi, read_codi),
    "coconut": Layout(is_coconut, read_coconut),
    "run": Layout(is_own_run, read_own_run),
}


def layout_of(name: str, checkpoint: Checkpoint) -> Layout:
    """The layout of that name, or with `auto` the one that fits.

    Raises:
        ConvertError: if none does.
    """
    if name != "auto":
        return LAYOUTS[name]
    names = set(checkpoint.tensors)
    for layout in LAYOUTS.values():
        if layout.fits(names):
            return layout
    raise ConvertError(
        f"its tensors are of no known layout ({', '.join(LAYOUTS)}): {some(sorted(names))}; give "
        "a checkpoint as its training saved it"
    )
