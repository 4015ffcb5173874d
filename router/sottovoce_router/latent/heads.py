"""How a state becomes the next latent input: one head a method, in float32.

The maths is that of `sottovoce_training.latent.heads`, which trains them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ..errors import PluginError
from .feedback import Feedback
from .manifest import FOLDER, HEAD, Manifest

Draw = Callable[[], torch.Tensor]  # standard normal noise, of the shape of the states


class Head(nn.Module):
    """From the states after the final norm to the next inputs."""

    stride: int | None = None  # `stops` is asked after every stride-th latent; None: never

    def forward(self, hidden: torch.Tensor, draw: Draw) -> torch.Tensor:
        """[n, H] of any dtype to [n, H]."""
        raise NotImplementedError

    def stops(self, hidden: torch.Tensor) -> torch.Tensor:
        """From the states [n, H] at the last latents, whether thinking ends there: bool [n]."""
        raise NotImplementedError


class Coconut(Head):
    """The state itself is the input (arXiv 2412.06769)."""

    def forward(self, hidden: torch.Tensor, draw: Draw) -> torch.Tensor:
        """[n, H] to the same."""
        return hidden


class Codi(Head):
    """LayerNorm(Linear(GELU(Linear(h)))) (arXiv 2502.21074)."""

    def __init__(self, projection: Feedback) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden: torch.Tensor, draw: Draw) -> torch.Tensor:
        """[n, H] of any dtype to float32 [n, H]."""
        found: torch.Tensor = self.projection(hidden)
        return found


class Atp(Head):
    """mean + std noise, and a head that says when to stop (ATP-Latent, arXiv 2601.21598)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean, self.log_std = Feedback(width), nn.Linear(width, width)
        self.stop = nn.Linear(width, 1)

    def forward(self, hidden: torch.Tensor, draw: Draw) -> torch.Tensor:
        """[n, H] of any dtype to a sample, float32 [n, H]."""
        std = self.log_std(hidden.float()).clamp(-10.0, 2.0).exp()
        found: torch.Tensor = self.mean(hidden) + std * draw()
        return found

    def stops(self, hidden: torch.Tensor) -> torch.Tensor:
        """Whether the logit is above 0."""
        logits: torch.Tensor = self.stop(hidden.float())
        return logits.squeeze(-1) > 0


# By method, of states of a width.
HEADS: dict[str, Callable[[int], Head]] = {
    "coconut": lambda width: Coconut(),
    "codi": lambda width: Codi(Feedback(width)),
    "atp": Atp,
}


def load_head(model: str, manifest: Manifest, width: int, device: torch.device) -> Head:
    """The head in a model's directory.

    Args:
        width: of the model's states.

    Raises:
        PluginError: where it is not the model's.
    """
    folder = Path(model) / FOLDER
    if manifest.width != width:
        raise PluginError(
            f"{folder}: a head for states of width {manifest.width}, but the model's have {width}; "
            "convert the model again"
        )
    head = HEADS[manifest.method](width).float()
    head.stride = manifest.stride
    if head.state_dict():
        try:
            head.load_state_dict(load_file(folder / HEAD))
        except (OSError, RuntimeError) as error:
            raise PluginError(f"{folder / HEAD}: {error}; convert the model again") from error
    return head.to(device).requires_grad_(False)
