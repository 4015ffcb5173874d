"""The feedback of latent steps, as CODI's projection and in System-1.5 as this project trains it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Feedback(nn.Module):
    """The next latent input: LayerNorm(Linear(GELU(Linear(h))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last layer's output after the final norm, [..., H], to an input, float32 [..., H]."""
        found: torch.Tensor = self.norm(self.out(F.gelu(self.hidden(hidden.float()))))
        return found
