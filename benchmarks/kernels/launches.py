"""Replaces Triton launches by a list of them, so that tensors without memory can reach a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from triton.runtime.jit import JITFunction


@dataclass(frozen=True)
class Launch:
    """One kernel launch: constexprs and options are in `keywords`."""

    kernel: Any
    grid: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.kernel.__name__)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Launches made inside, none of which runs; not for a process with TRITON_INTERPRET=1."""
    launches: list[Launch] = []

    def run(self: Any, *arguments: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
        launches.append(Launch(self, grid, arguments, keywords))

    with mock.patch.object(JITFunction, "run", run):
        yield launches
