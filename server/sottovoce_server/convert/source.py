"""A checkpoint's tensors: one file, or shards with or without an index, of safetensors or torch."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .parts import Checkpoint, ConvertError, Tensors, some, value_in

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_INDEX_REMEDY = "fetch it again, or remove it: shards are found by their names"
_SINGLE = ("model.safetensors", "pytorch_model.bin", "checkpoint.pt")
_SHARD = re.compile(r"(?:model|pytorch_model)-(\d+)-of-(\d+)\.(?:safetensors|bin)")
_BARE = "checkpoint_*"  # as Coconut saves them


def read_checkpoint(source: Path) -> Checkpoint:
    """Read a file, or what a directory holds.

    Raises:
        ConvertError: if there is none or more than one, if it is cut short, or if it holds code.
    """
    if source.is_file():
        return Checkpoint(_read(source), source.parent)
    if not source.is_dir():
        raise ConvertError(f"{source}: no such file or directory; give a checkpoint's")
    tensors: Tensors = {}
    for path in _files(source):
        tensors |= _read(path)
    _agree_with_index(source, tensors)
    return Checkpoint(tensors, source)


def _files(folder: Path) -> list[Path]:
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    shards = sorted(path for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if shards:
        return _complete(folder, shards)
    bare = sorted(folder.glob(_BARE))
    if len(bare) == 1:
        return bare
    if bare:
        raise ConvertError(f"{folder}: holds {some([p.name for p in bare])}; give one of the files")
    raise ConvertError(
        f"{folder}: holds none of {', '.join(_SINGLE)}, no shards and no {_BARE}; give the file"
    )


def _complete(folder: Path, shards: list[Path]) -> list[Path]:
    found = [(int(m[1]), int(m[2])) for p in shards if (m := _SHARD.fullmatch(p.name))]
    wanted = [(i + 1, found[0][1]) for i in range(found[0][1])]
    if found != wanted:
        raise ConvertError(
            f"{folder}: {len(found)} shards of {found[0][1]}, {some([p.name for p in shards])}; "
            "fetch what is missing"
        )
    return shards


def _agree_with_index(folder: Path, tensors: Tensors) -> None:
    for path in (folder / name for name in _INDEXES if (folder / name).is_file()):
        named = value_in(path, "weight_map", dict, _INDEX_REMEDY)
        if differing := named.keys() ^ tensors.keys():
            raise ConvertError(f"{path}: does not agree with the shards on {some([*differing])}")


def _read(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            # Mapped, so that parts which are dropped are never read; an old format cannot be.
            found = torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ConvertError(f"{path}: holds more than tensors, and is not run: {error}") from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ConvertError(f"{path}: cannot be read ({error}); fetch it again") from error
    return _state_dict(path, found)


def _state_dict(path: Path, found: Any) -> Tensors:
    """The state dict, or the one of a run, which has its optimizers beside it."""
    state: Tensors = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise ConvertError(f"{path}: is no state dict; give a file of named tensors")
    return state
