"""Routers, adapters and the feedback of latent steps, in float32 as they were exported.

The maths is that of `sottovoce_training.shortcuts.modules`, which trains them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from vllm import ir

from ..latent.feedback import Feedback
from .manifest import Manifest


class _Scaled(nn.Module):
    """x over its root mean square."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.register_buffer("_ones", torch.ones(width), persistent=False)
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, H] to float32 [n, H]."""
        found: torch.Tensor = ir.ops.rms_norm(x.float(), self._ones, self._eps)
        return found


class Adapter(nn.Module):
    """g(x) = up(GELU(down(scaled(x))))."""

    def __init__(self, scaled: _Scaled, width: int, rank: int) -> None:
        super().__init__()
        self._scaled = scaled
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H] of any dtype to float32 [..., H]."""
        found: torch.Tensor = self.up(F.gelu(self.down(self._scaled(x))))
        return found


class Router(nn.Module):
    """w = sigmoid(out(GELU(hidden(scaled(x))))), computed by `Entrance`."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, inner), nn.Linear(inner, 1)


def _padded(matrix: torch.Tensor, left: int, right: int) -> torch.Tensor:
    return F.pad(matrix, (left, right)).contiguous()


class Entrance:
    """What every row asked computes at a layer: its router and its depth adapter, which read one input.

    Their first matrices are stacked, and zeros in the second ones leave out what is the other's.
    """

    def __init__(self, scaled: _Scaled, router: Router, adapter: Adapter | None) -> None:
        parts = [router.hidden] if adapter is None else [router.hidden, adapter.down]
        inner = router.hidden.out_features
        rank = 0 if adapter is None else adapter.down.out_features
        self._scaled, self._up = scaled, None
        self._first = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
        self._gate = _padded(router.out.weight, 0, rank), router.out.bias
        if adapter is not None:
            self._up = _padded(adapter.up.weight, inner, 0), adapter.up.bias

    def opened(self, x: torch.Tensor) -> torch.Tensor:
        """Both hidden layers of inputs [n, H] of any dtype: float32 [n, inner + rank]."""
        return F.gelu(F.linear(self._scaled(x), *self._first))

    def gate(self, opened: torch.Tensor) -> torch.Tensor:
        """The logit of w, [n]."""
        return F.linear(opened, *self._gate)[:, 0]

    def down(self, x: torch.Tensor, opened: torch.Tensor) -> torch.Tensor:
        """The depth shortcut past the layer, from its input [n, H]: float32, to begin a sum with.

        Zero where there is none, and the step shortcut then brings its own residual.
        """
        if self._up is None:
            return torch.zeros_like(x, dtype=torch.float32)
        return F.linear(opened, *self._up).add_(x)


class Shortcuts(nn.Module):
    """L routers, L + 1 adapters (g_0 reads the embedding, g_l layer l's output), the feedback."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        width, layers = manifest.width, manifest.num_layers
        scaled = _Scaled(width, manifest.eps)
        self.has_depth, self.has_step = manifest.has_depth, manifest.has_step
        self.feedback = Feedback(width)
        self.routers = nn.ModuleList(Router(width, manifest.router_width) for _ in range(layers))
        self.adapters = nn.ModuleList(
            Adapter(scaled, width, manifest.adapter_rank) for _ in range(layers + 1)
        )
        self._scaled = scaled
        self.entrances: list[Entrance] = []

    @torch.no_grad()
    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the weights in, and make of them what steps compute with."""
        self.load_state_dict(weights)
        adapters: Any = self.adapters if self.has_depth else [None] * len(self.adapters)
        pairs: Any = zip(self.routers, adapters, strict=False)  # the last adapter is no layer's
        self.entrances = [Entrance(self._scaled, router, adapter) for router, adapter in pairs]

    def across(self, layer: int, before: torch.Tensor) -> torch.Tensor:
        """What the layer's output at the latent step before, [n, H], adds to that: float32."""
        added: torch.Tensor = self.adapters[layer + 1](before)
        return added if self.has_depth else before.float() + added
