"""Runs of `make train-latent`: checkpoint.pt, with settings.json beside it."""

from __future__ import annotations

from pathlib import Path

from .heads import NAMES
from .parts import Checkpoint, Parts, Tensors, Thinking, split, value_in

ATP_STEPS, ATP_STRIDE = 20, 2  # what training runs with, and its validation (arXiv 2601.21598)
_REMEDY = "write the latents of the run there, or remove the file and give --steps"
_START, _END = "<think>", "</think>"
_MODEL, _HEAD, _DECODER = "thinker.model.", "thinker.head.", "decoder.reader.model."


def is_own_run(names: set[str]) -> bool:
    """Whether these are its names."""
    return any(name.startswith(_MODEL) for name in names)


def read_own_run(checkpoint: Checkpoint) -> Parts:
    """Tokenizer, markers and chat template are the reasoner's own."""
    found = split(checkpoint.tensors, (_MODEL, _HEAD, _DECODER))
    method = _method(found[_HEAD])
    if method == "atp":
        thinking = Thinking(method, ATP_STEPS, _START, _END, ATP_STRIDE, ATP_STEPS)
    else:
        thinking = Thinking(method, _trained_steps(checkpoint.folder), _START, _END)
    return Parts(
        model=found[_MODEL],
        prefix=_MODEL,
        head={_HEAD + name: tensor for name, tensor in found[_HEAD].items()},
        head_names={_HEAD + name: name for name in NAMES[method]},
        thinking=thinking,
        decoder=found[_DECODER],
        decoder_prefix=_DECODER,
    )


def _method(head: Tensors) -> str:
    """The method whose head has most of the names: one that is missing is then named."""
    return max(NAMES, key=lambda method: (len(NAMES[method] & head.keys()), method == "coconut"))


def _trained_steps(folder: Path) -> int | None:
    path = folder / "settings.json"  # runs before it was written have none
    return value_in(path, "num_latents", int, _REMEDY) if path.is_file() else None
