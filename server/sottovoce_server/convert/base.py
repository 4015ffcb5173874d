"""The model that a checkpoint was trained from: its configuration and tokenizer, not its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .parts import ConvertError

_QUESTION = (
    "{% for message in messages %}{{ message['content'] | trim }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Base:
    """Both are changed into the converted model's."""

    config: Any
    tokenizer: Any


def read_base(base: Path | None, folder: Path) -> Base:
    """From `base`, else from the checkpoint's own folder.

    Raises:
        ConvertError: if it has no usable configuration or tokenizer.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = base or folder
    remedy = "give --base the directory of the model that the checkpoint was trained from"
    if not _has_model_type(path / "config.json"):
        raise ConvertError(f"{path}: no config.json that names a model_type; {remedy}")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConvertError(f"{path}: {error}; {remedy}") from error
    return Base(config, tokenizer)


def _has_model_type(path: Path) -> bool:
    """Published checkpoints have an empty config.json."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "model_type" in found


def add_tokens(tokenizer: Any, texts: Sequence[str], first: int) -> None:
    """Add special tokens that have the ids from `first` on.

    Raises:
        ConvertError: if the tokenizer would give them others.
    """
    from tokenizers import AddedToken

    for wanted, text in enumerate(texts, start=first):
        tokenizer.add_tokens([AddedToken(text, special=True, normalized=False)])
        found = tokenizer.convert_tokens_to_ids(text)
        if found != wanted:
            raise ConvertError(
                f"the tokenizer has {text} at {found}, and the checkpoint's row for it is {wanted}; "
                f"give --base a tokenizer of {first} tokens"
            )


def set_template(tokenizer: Any, before_start: str, start: str) -> None:
    """A chat template of what the tokenizer begins a text with, the question, and the marker."""
    opening = "".join(tokenizer.convert_ids_to_tokens(tokenizer("").input_ids))
    closing = repr(before_start + start)
    tokenizer.chat_template = (
        f"{{{{ {opening!r} }}}}{_QUESTION}"
        f"{{% if add_generation_prompt %}}{{{{ {closing} }}}}{{% endif %}}"
    )
