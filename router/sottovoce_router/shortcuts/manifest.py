"""What a model's directory says of its shortcuts, as `sottovoce_training.shortcuts.weights` writes it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "shortcuts"
STUDENT, SHORTCUTS, MANIFEST = "student.safetensors", "shortcuts.safetensors", "manifest.json"
FORMAT = 1
# Their layers, as vLLM builds them, have the same parts under the same names.
FAMILIES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True)
class Manifest:
    """One set of shortcut weights."""

    folder: Path
    steps: int  # latent steps of a request that leaves them out
    depth: float | None  # the threshold of such a request; None skips no layer
    trained_steps: tuple[int, ...]
    has_depth: bool  # whether a layer may be left by what its input says
    has_step: bool  # whether by its output at the latent step before
    num_layers: int
    width: int  # of the states
    adapter_rank: int
    router_width: int
    eps: float  # of the root mean square by which routers and adapters scale what they read

    def as_card(self) -> dict[str, Any]:
        """What a client is told."""
        return {"steps": self.steps, "depth": self.depth, "trained_steps": [*self.trained_steps]}


def _read(folder: Path) -> Manifest:
    path = folder / MANIFEST
    found = json.loads(path.read_text())
    if found.get("format") != FORMAT:
        raise ValueError(f"{path}: format {found.get('format')!r} is not {FORMAT}; export again")
    variant, sizes = found["shortcuts"], found["sizes"]
    return Manifest(
        folder=folder,
        steps=found["steps"],
        depth=found["depth"],
        trained_steps=tuple(found["trained_steps"]),
        has_depth=variant["depth"],
        has_step=variant["step"],
        num_layers=sizes["num_layers"],
        width=sizes["width"],
        adapter_rank=sizes["adapter_rank"],
        router_width=sizes["router_width"],
        eps=found["scaled_eps"],
    )


@functools.cache
def read_manifest(model: str) -> Manifest | None:
    """The manifest in a model's directory; None without one, as for a model that is no directory.

    Raises:
        ValueError: if it is of another format.
    """
    folder = Path(model) / FOLDER
    return _read(folder) if (folder / MANIFEST).is_file() else None


def manifest_of(model_config: Any, is_on: bool) -> Manifest | None:
    """The shortcuts that an engine serves for its model, if nothing else forbids them.

    Args:
        model_config: vLLM's ModelConfig.
        is_on: false where additional_config turned shortcuts off.
    """
    if not is_on or model_config.architecture not in FAMILIES or model_config.quantization:
        return None
    return read_manifest(str(model_config.model))
