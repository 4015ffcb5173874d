"""How a state becomes the next latent input: one head a method."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import nn

from ..shortcuts.modules import Feedback


class Thought(NamedTuple):
    """Latent inputs [..., H], and the normal distribution that they were drawn from, if any."""

    z: torch.Tensor
    mean: torch.Tensor | None = None
    log_std: torch.Tensor | None = None


class Head(Protocol):
    """From states after the final norm, [..., H], to thoughts."""

    def __call__(self, hidden: torch.Tensor) -> Thought:
        """The next latent input."""


class Coconut(nn.Module):
    """The state itself is the input (arXiv 2412.06769)."""

    def forward(self, hidden: torch.Tensor) -> Thought:
        """[..., H] to the same."""
        return Thought(hidden)


class Codi(nn.Module):
    """LayerNorm(Linear(GELU(Linear(h)))) (arXiv 2502.21074)."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.projection = Feedback(width, scale)

    def forward(self, hidden: torch.Tensor) -> Thought:
        """[..., H] to a projected input."""
        return Thought(self.projection(hidden))


class Atp(nn.Module):
    """z = mean + std noise, of a conditional VAE, and a head that says when to stop (2601.21598).

    `scale` is the standard deviation of the token embeddings. The noise starts a tenth as large;
    sizes and starting values are our choices.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.mean, self.log_std = Feedback(width, scale), nn.Linear(width, width)
        self.stop = nn.Linear(width, 1)
        nn.init.zeros_(self.log_std.weight)
        nn.init.constant_(self.log_std.bias, torch.tensor(0.1 * scale).log().item())

    def forward(self, hidden: torch.Tensor) -> Thought:
        """[..., H] to a sample, drawn also when it answers, as the method does."""
        mean, log_std = self.mean(hidden), self.log_std(hidden).clamp(-10.0, 2.0)
        return Thought(mean + log_std.exp() * torch.randn_like(mean), mean, log_std)


def new_head(method: str, width: int, scale: float) -> nn.Module:
    """The head of a method of train.METHODS."""
    if method == "coconut":
        return Coconut()
    return Atp(width, scale) if method.startswith("atp") else Codi(width, scale)
