"""Forbids whatever makes the host wait for a device, whose tensors those on `meta` stand for.

A meta tensor has no values to read. The guard names the read, and sees what else waits: a blocking
copy from the host, indices that live there, and a mask, whose length the host must learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,
    aten.item,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.repeat_interleave,
    aten._unique2,
}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}
METHODS = ("tolist", "item", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
UPLOADS = ("tensor", "as_tensor", "asarray")  # from a list, which no dispatch mode sees


class HostSyncError(Exception):
    """The host would have waited for the device."""


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_meta


class _Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        op, on_device = func.overloadpacket, [x for x in tree_leaves(args) if _is_device(x)]
        if op in READS and on_device:
            raise HostSyncError(str(func))
        if op in INDEXED and on_device:
            self._check_indices(func, [x for x in args[1] if x is not None])
        if op in COPIES:
            self._check_copy(func, args, kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _check_indices(func: Any, indices: list[torch.Tensor]) -> None:
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            raise HostSyncError(f"{func} with a mask")
        if not all(x.is_meta for x in indices):
            raise HostSyncError(f"{func} with indices from the host, blocking")

    @staticmethod
    def _check_copy(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        is_in_place = func.overloadpacket is aten.copy_
        source = args[1] if is_in_place else args[0]
        target = args[0].device if is_in_place else kwargs.get("device") or source.device
        waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        is_device = torch.device(target).type == "meta"
        if source.is_meta and not is_device:
            raise HostSyncError(f"{func} to the host")
        if is_device and not source.is_meta and waits:
            raise HostSyncError(f"{func} from the host, blocking")


def _forbid(name: str) -> Callable[..., Any]:
    original = getattr(torch.Tensor, name)

    def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.is_meta:
            raise HostSyncError(f"Tensor.{name}")
        return original(self, *args, **kwargs)

    return method


def _forbid_upload(name: str) -> Callable[..., Any]:
    original = getattr(torch, name)

    def make(*args: Any, device: Any = None, **kwargs: Any) -> Any:
        is_empty = bool(args) and isinstance(args[0], list) and not args[0]  # nothing to copy
        if device is not None and torch.device(device).type == "meta" and not is_empty:
            raise HostSyncError(f"torch.{name} from the host, blocking")
        return original(*args, device=device, **kwargs)

    return make


@contextmanager
def forbidden() -> Iterator[None]:
    """Raise HostSyncError where the host would wait for a tensor on `meta`."""
    with ExitStack() as stack:
        for name in METHODS:
            stack.enter_context(mock.patch.object(torch.Tensor, name, _forbid(name)))
        for name in UPLOADS:
            stack.enter_context(mock.patch.object(torch, name, _forbid_upload(name)))
        stack.enter_context(_Guard())  # type: ignore[no-untyped-call]
        yield
