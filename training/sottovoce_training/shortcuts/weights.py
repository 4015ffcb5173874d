"""The exported files: the student's weights, the shortcuts' and the manifest that says what they are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .data import LATENT_STEPS
from .generate import Mode
from .modules import NORM_EPS, Shortcuts, Sizes, Variant

STUDENT, SHORTCUTS, MANIFEST = "student.safetensors", "shortcuts.safetensors", "manifest.json"
FORMAT = 1
DEFAULT = Mode()
MAX_MEGABYTES = 15.0  # 10^6 bytes


@dataclass(frozen=True)
class Manifest:
    """What a server must know beside the tensors."""

    sizes: Sizes
    variant: Variant
    steps: int = DEFAULT.steps
    depth: float | None = DEFAULT.depth
    trained_steps: tuple[int, ...] = LATENT_STEPS

    def to_json(self) -> dict[str, Any]:
        """As manifest.json has it."""
        return {
            "format": FORMAT, "method": "System-1.5, arXiv 2505.18962",
            "steps": self.steps, "depth": self.depth,
            "trained_steps": list(self.trained_steps), "shortcuts": asdict(self.variant),
            "sizes": asdict(self.sizes), "scaled_eps": NORM_EPS,
        }  # fmt: skip

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Manifest:
        """Read manifest.json.

        Raises:
            ValueError: if it is of another format.
        """
        if found.get("format") != FORMAT:
            raise ValueError(f"format: {found.get('format')} is not {FORMAT}; export again")
        return cls(
            Sizes(**found["sizes"]), Variant(**found["shortcuts"]),
            found["steps"], found["depth"], tuple(found["trained_steps"]),
        )  # fmt: skip


def write_weights(model: Any, shortcuts: Shortcuts, target: Path) -> float:
    """Write the student in bfloat16 and the small rest in float32; the files' megabytes.

    Raises:
        ValueError: if they take more than MAX_MEGABYTES.
    """
    from safetensors.torch import save_file

    target.mkdir(parents=True, exist_ok=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    student = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    save_file(student, target / STUDENT, metadata={"format": "pt"})
    save_file(shortcuts.state_dict(), target / SHORTCUTS, metadata={"format": "pt"})
    manifest = Manifest(shortcuts.sizes, shortcuts.variant).to_json()
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    size = sum((target / name).stat().st_size for name in (STUDENT, SHORTCUTS)) / 1e6
    if size > MAX_MEGABYTES:
        raise ValueError(f"{target}: {size:.1f} MB exceed {MAX_MEGABYTES} MB; take smaller sizes")
    return size


def read_weights(source: Path, model: Any) -> tuple[Shortcuts, Manifest]:
    """Load the student's weights into `model`, a Llama of the teacher's shape, and the rest."""
    from safetensors.torch import load_file

    manifest = Manifest.from_json(json.loads((source / MANIFEST).read_text()))
    missing, unexpected = model.load_state_dict(load_file(source / STUDENT), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{source / STUDENT}: missing {missing}, unexpected {unexpected}")
    shortcuts = Shortcuts(manifest.sizes, manifest.variant)
    shortcuts.load_state_dict(load_file(source / SHORTCUTS))
    return shortcuts, manifest
