"""RMS norms of uncompiled layers on a CPU, in one kernel each.

vLLM has the kernels, but computes a norm in eight steps there, for its compiler to fuse; a student's
layers run uncompiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PROVIDER = "sottovoce_cpu"


def _rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> torch.Tensor:
    out = torch.empty_like(x)
    torch.ops._C.rms_norm(out, x, weight, epsilon)
    return out


def _fused_add_rms_norm(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual


def _fits(
    x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    is_plain = variance_size is None and weight is not None and weight.dtype == x.dtype
    return is_plain and x.is_contiguous()


def _both_fit(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    return _fits(x, weight, epsilon, variance_size) and x_residual.is_contiguous()


def register(ops: Any) -> None:
    """Add them to `vllm.ir.ops`; an engine uses them within `used`, or once `choose` was called."""
    if PROVIDER not in ops.rms_norm.impls:
        ops.rms_norm.register_impl(PROVIDER, supports_args=_fits)(_rms_norm)
        ops.fused_add_rms_norm.register_impl(PROVIDER, supports_args=_both_fit, inplace=True)(
            _fused_add_rms_norm
        )


def choose(ops: Any) -> None:
    """Compute this process's norms with them from now on; its next engine starts afresh."""
    for op in (ops.rms_norm, ops.fused_add_rms_norm):
        op.set_default([PROVIDER, "native"])


@contextmanager
def used(ops: Any) -> Iterator[None]:
    """Compute norms with them here, in an engine that is compiled elsewhere."""
    from vllm.ir.op import enable_torch_wrap

    order = [PROVIDER, "native"]
    rms, fused = ops.rms_norm.set_priority(order), ops.fused_add_rms_norm.set_priority(order)
    with enable_torch_wrap(False), rms, fused:
        yield
