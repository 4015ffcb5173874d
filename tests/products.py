"""Counts the matrix products that torch runs, on whatever device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
OPS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot, aten.linear}
Shapes = list[tuple[int, ...]]  # of a product's factors


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Shapes] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in OPS:
            self.found.append([tuple(x.shape) for x in args if isinstance(x, torch.Tensor)])
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[list[Shapes]]:
    """The factors' shapes of every product that is run inside."""
    with _Counter() as counter:
        yield counter.found
