"""What is added to a Llama: routers and adapters for its layers, and the feedback of latent steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

NORM_EPS = 1e-6  # of the root mean square by which routers and adapters scale what they read


@dataclass(frozen=True)
class Sizes:
    """How large the added parts are."""

    num_layers: int
    width: int  # of the states
    adapter_rank: int = 32
    router_width: int = 16


@dataclass(frozen=True)
class Variant:
    """Which of the two shortcuts a model has; the paper's ablations leave one out."""

    depth: bool = True
    step: bool = True


@dataclass(frozen=True)
class Gate:
    """How much of the shortcut a router's w takes: w itself, or all or nothing of it."""

    depth: float | None = None  # None: w, as in training; else 1 where w > depth and 0 elsewhere

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        """The share of the shortcut, of w's shape."""
        return w if self.depth is None else (w > self.depth).to(w.dtype)


def scaled(x: torch.Tensor) -> torch.Tensor:
    """[..., H] divided by its root mean square."""
    return F.rms_norm(x, (x.shape[-1],), eps=NORM_EPS)


class Adapter(nn.Module):
    """g(x) = up(GELU(down(scaled(x)))), zero before training. The bottleneck is our choice."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H] to [..., H], to be added to a state as a layer's output is."""
        found: torch.Tensor = self.up(F.gelu(self.down(scaled(x))))
        return found


class Router(nn.Module):
    """w = sigmoid(FFN(x)), about 0.12 before training: a student nearly as it was."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, inner), nn.Linear(inner, 1)
        nn.init.constant_(self.out.bias, -2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H] to w, [...]."""
        found: torch.Tensor = self.out(F.gelu(self.hidden(scaled(x)))).squeeze(-1).sigmoid()
        return found


class Feedback(nn.Module):
    """The next latent input: LayerNorm(Linear(GELU(Linear(h)))), as in CODI (2502.21074).

    System-1.5 does not say how a state becomes an input, so this is our choice. `scale` is the
    standard deviation of the token embeddings, which a latent input has before training.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last layer's output after the final norm, [..., H], to an input, [..., H]."""
        found: torch.Tensor = self.norm(self.out(F.gelu(self.hidden(hidden))))
        return found


class Shortcuts(nn.Module):
    """L routers, L + 1 adapters (g_0 reads the embedding, g_l layer l's output), the feedback."""

    def __init__(self, sizes: Sizes, variant: Variant, embedding_scale: float = 1.0) -> None:
        super().__init__()
        self.sizes, self.variant = sizes, variant
        self.feedback = Feedback(sizes.width, embedding_scale)
        self.routers = nn.ModuleList(
            Router(sizes.width, sizes.router_width) for _ in range(sizes.num_layers)
        )
        self.adapters = nn.ModuleList(
            Adapter(sizes.width, sizes.adapter_rank) for _ in range(sizes.num_layers + 1)
        )

    def shortcut(
        self, index: int, x: torch.Tensor, before: torch.Tensor | None
    ) -> torch.Tensor | None:
        """What stands in for layer `index` (from 0), or None where there is no shortcut.

        x is the layer's input, `before` the layer's output at the latent step before, both
        [..., H]. The residual stream passes on, from x, or from `before` where there is no depth
        shortcut; the adapters add to it. Source: 2505.18962, with that residual our choice.
        """
        previous = before if self.variant.step else None
        base = x + self.adapters[index](x) if self.variant.depth else previous
        if base is None or previous is None:
            return base
        found: torch.Tensor = base + self.adapters[index + 1](previous)
        return found
