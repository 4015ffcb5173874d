"""The converted model's directory, written beside its place and then moved there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sottovoce_router.latent.manifest import FOLDER, Manifest

from .base import Base
from .parts import ConvertError, Tensors


def check_free(target: Path) -> None:
    """Raise a ConvertError if something is there."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConvertError(f"{target}: is there already; give an empty or a new directory")


def write(
    target: Path, base: Base, weights: Tensors, more: Mapping[str, Tensors], manifest: Manifest
) -> None:
    """Write weights, configuration, tokenizer, manifest, and what `more` has to go beside that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch, "model")
        folder.mkdir()
        base.config.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        _save(weights, folder / "model.safetensors")
        (folder / "generation_config.json").write_text(json.dumps(_ids(base), indent=2) + "\n")
        manifest.write(folder)
        for name, tensors in more.items():
            if tensors:
                _save(tensors, folder / FOLDER / name)
        folder.replace(target)


def _save(tensors: Tensors, path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes it for its owner only


def _ids(base: Base) -> dict[str, Any]:
    """What ends an answer, and the padding. Sampling stays the request's."""
    ends = base.config.eos_token_id
    found = {base.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    return {"eos_token_id": sorted(found), "pad_token_id": base.tokenizer.pad_token_id}
