"""What every layout works with: a checkpoint as it was read, and what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

Tensors = dict[str, torch.Tensor]
ValueT = TypeVar("ValueT", int, dict[str, str])
_SHOWN = 5  # names in an error
_SPELT = {int: "a whole number", dict: "an object"}


class ConvertError(ValueError):
    """A checkpoint that cannot be converted; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A state dict, and the directory that it was found in."""

    tensors: Tensors
    folder: Path


@dataclass(frozen=True)
class Thinking:
    """How the model thinks, as its manifest says it."""

    method: str
    steps: int | None  # None: the checkpoint does not say it
    start: str
    end: str
    stride: int | None = None
    max_steps: int | None = None  # None: what the server allows


@dataclass(frozen=True)
class Parts:
    """What a layout finds in a checkpoint."""

    model: Tensors  # under transformers' names; LoRA is not merged yet
    prefix: str  # that the names of the model's tensors have in the checkpoint
    head: Tensors  # under the checkpoint's names
    head_names: Mapping[str, str]  # of the checkpoint, to those of head.safetensors
    thinking: Thinking
    decoder: Tensors = field(default_factory=dict)  # of steps, if kept; under transformers' names
    decoder_prefix: str = ""
    added: Sequence[str] = ()  # the tokens of the last rows of the embedding, in order
    before_start: str | None = None  # between question and marker; None: the base's own template
    pad: str | None = None  # the token to pad with, where the base has none
    dropped: Sequence[str] = ()  # a line for each part that is left out


def split(tensors: Tensors, prefixes: Iterable[str]) -> dict[str, Tensors]:
    """The tensors by the first prefix of theirs, which is cut off.

    Raises:
        ConvertError: naming tensors that have none of them.
    """
    found: dict[str, Tensors] = {prefix: {} for prefix in prefixes}
    left = []
    for name, tensor in tensors.items():
        prefix = next((p for p in found if name.startswith(p)), None)
        if prefix is None:
            left.append(name)
        else:
            found[prefix][name.removeprefix(prefix)] = tensor
    if left:
        raise ConvertError(f"tensors that this layout does not have: {some(left)}; see --format")
    return found


def dropped(found: Mapping[str, Tensors], what: Mapping[str, str]) -> list[str]:
    """What is left out: a line for each of these prefixes that the checkpoint has."""
    return [
        f"dropped {len(found[prefix])} tensors of {prefix}*: {text}"
        for prefix, text in what.items()
        if found[prefix]
    ]


def value_in(path: Path, key: str, kind: type[ValueT], remedy: str) -> ValueT:
    """What a JSON file has under a key.

    Raises:
        ConvertError: if it has nothing there, or something of another kind.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not isinstance(found, dict) or key not in found:
        raise ConvertError(f"{path}: has no {key}; {remedy}")
    value = found[key]
    if type(value) is not kind:  # JSON's true is an int to isinstance
        raise ConvertError(f"{path}: {key} {value!r} is not {_SPELT[kind]}; {remedy}")
    return value


def some(names: Sequence[str]) -> str:
    """The first few names, and how many others there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def check(found: Tensors, expected: Mapping[str, Sequence[int]], prefix: str = "") -> None:
    """Raise a ConvertError that names a tensor, with its prefix, which is missing, extra or misshapen."""
    for what, names in (
        ("the checkpoint lacks", expected.keys() - found.keys()),
        ("the model has no place for", found.keys() - expected.keys()),
    ):
        if names:
            raise ConvertError(f"{what} {some([prefix + name for name in sorted(names)])}")
    for name, shape in expected.items():
        if tuple(found[name].shape) != tuple(shape):
            raise ConvertError(
                f"{prefix}{name} is {tuple(found[name].shape)}, not {tuple(shape)}; is this the "
                "base that it was trained from?"
            )
