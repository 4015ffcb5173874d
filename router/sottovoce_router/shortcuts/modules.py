"""Routers, adapters and the feedback of latent steps, in float32 as they were exported.

The maths is that of `sottovoce_training.shortcuts.modules`, which trains them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..latent.feedback import Feedback
from .manifest import Manifest


class _Scaled(nn.Module):
    """x over its root mean square."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self._shape, self._eps = (width,), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H] to [..., H]."""
        return F.rms_norm(x.float(), self._shape, eps=self._eps)


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
    """w = sigmoid(FFN(x))."""

    def __init__(self, scaled: _Scaled, width: int, inner: int) -> None:
        super().__init__()
        self._scaled = scaled
        self.hidden, self.out = nn.Linear(width, inner), nn.Linear(inner, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H] of any dtype to w, float32 [...]."""
        inner = F.gelu(self.hidden(self._scaled(x)))
        found: torch.Tensor = self.out(inner).squeeze(-1).sigmoid()
        return found


class Shortcuts(nn.Module):
    """L routers, L + 1 adapters (g_0 reads the embedding, g_l layer l's output), the feedback."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        width, layers = manifest.width, manifest.num_layers
        scaled = _Scaled(width, manifest.eps)
        self.has_depth, self.has_step = manifest.has_depth, manifest.has_step
        self.feedback = Feedback(width)
        self.routers = nn.ModuleList(
            Router(scaled, width, manifest.router_width) for _ in range(layers)
        )
        self.adapters = nn.ModuleList(
            Adapter(scaled, width, manifest.adapter_rank) for _ in range(layers + 1)
        )

    def down(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """The depth shortcut past a layer, from its input [n, H]: float32, to begin a sum with.

        Zero where there is none, and the step shortcut then brings its own residual.
        """
        if not self.has_depth:
            return torch.zeros_like(x, dtype=torch.float32)
        found: torch.Tensor = x.float() + self.adapters[layer](x)
        return found

    def across(self, layer: int, before: torch.Tensor) -> torch.Tensor:
        """What the layer's output at the latent step before, [n, H], adds to that: float32."""
        added: torch.Tensor = self.adapters[layer + 1](before)
        return added if self.has_depth else before.float() + added
