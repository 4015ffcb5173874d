"""What a latent-trained model's directory says of its loop: read by the server, written by converters."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER, MANIFEST, HEAD = "latent", "manifest.json", "head.safetensors"
DECODER = "decoder.safetensors"
FORMAT = 1
METHODS = ("coconut", "codi", "atp")
MAX_STEPS = 64  # latent steps of one request, and the width of their ledger


@dataclass(frozen=True)
class Manifest:
    """How a model thinks: `steps` latents, or, with a `stride`, until its stop head says so."""

    method: str  # of METHODS
    steps: int  # latent steps of a request that names none
    stride: int | None  # the stop head is read after every stride-th latent; None: no stop head
    max_steps: int
    width: int  # of the states
    start: str  # the marker after which a prompt is in thinking
    end: str  # the marker given after the last latent step
    decoder_layers: int | None = None  # of what reads latents in words; None: there is no such

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} must be one of {list(METHODS)}")
        if not 1 <= self.steps <= self.max_steps <= MAX_STEPS:
            raise ValueError(
                f"steps {self.steps!r} and max_steps {self.max_steps!r} must be from 1 to "
                f"{MAX_STEPS}, and steps at most max_steps"
            )
        has_stop = self.method == "atp"
        if not ((self.stride or 0) >= 1 if has_stop else self.stride is None):
            raise ValueError(f"stride {self.stride!r} must be 1 or more for atp, and else null")
        if not self.start or not self.end:
            raise ValueError("start and end must be the texts of the markers")
        if self.decoder_layers is not None and self.decoder_layers < 1:
            raise ValueError(f"decoder_layers {self.decoder_layers!r} must be 1 or more, or null")

    @property
    def default_steps(self) -> int:
        """The steps of a request that names none: all there are where a head may stop before."""
        return self.max_steps if self.stride is not None else self.steps

    def as_card(self) -> dict[str, Any]:
        """What a client is told."""
        return {"method": self.method, "steps": self.default_steps, "max_steps": self.max_steps}

    def write(self, model: Path) -> None:
        """Write it into a model's directory."""
        folder = model / FOLDER
        folder.mkdir(exist_ok=True)
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2)
        (folder / MANIFEST).write_text(text + "\n")


@functools.cache
def read_manifest(model: str) -> Manifest | None:
    """The manifest in a model's directory; None without one, as for a model that is no directory.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    path = Path(model) / FOLDER / MANIFEST
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    if found.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: its format is not {FORMAT}; convert the model again")
    try:
        return Manifest(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; convert the model again") from error
