"""Models that `sottovoce serve` knows by a short name, with the flags they need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SHIPPED = Path(__file__).parents[2] / "models"


def _tiny_reasoner() -> Path:
    path = _SHIPPED / "tiny-reasoner"
    if not (path / "model.safetensors").is_file():
        raise RuntimeError(
            f"no weights at {path}: install from a checkout (`make setup`), or serve a directory"
        )
    return path


def _smollm2() -> Path:
    from .smollm2 import smollm2_path

    return smollm2_path()


@dataclass(frozen=True)
class KnownModel:
    """Where a model comes from, and its default flags."""

    path: Callable[[], Path]
    flags: tuple[str, ...]


_PARSER = ("--reasoning-parser", "deepseek_r1")
MODELS: dict[str, KnownModel] = {
    "tiny-reasoner": KnownModel(_tiny_reasoner, (*_PARSER, "--max-model-len", "2048")),
    "smollm2": KnownModel(_smollm2, (*_PARSER, "--max-model-len", "4096")),
}


def resolve(argv: list[str]) -> list[str]:
    """Replace a short model name by its directory and add its flags, before the user's own."""
    for i, word in enumerate(argv[1:], start=1):
        if word in MODELS and not argv[i - 1].startswith("--"):
            model = MODELS[word]
            print(f"sottovoce: preparing {word}", file=sys.stderr)
            names = () if "--served-model-name" in argv else ("--served-model-name", word)
            try:
                path = str(model.path())
            except RuntimeError as error:  # it could not be fetched
                sys.exit(f"sottovoce: {error}")
            return [*argv[:i], path, *model.flags, *names, *argv[i + 1 :]]
    return argv
