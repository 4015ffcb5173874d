"""Tiny random models with random shortcuts: routers whose w is anywhere between 0 and 1.

Latent inputs have a large mean and vary little, for a reason that `models.py` gives: fed back through
independent random weights, a rounding error doubles with every step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from e2e import models
from sottovoce_training.shortcuts.modules import Shortcuts, Variant
from sottovoce_training.shortcuts.reference import Reference
from sottovoce_training.shortcuts.student import new_shortcuts
from sottovoce_training.shortcuts.weights import read_weights, write_weights

BOTH = Variant()
_SIZES = {"adapter_rank": 8, "router_width": 8}


def _random_shortcuts(model: Any, variant: Variant, seed: int) -> Shortcuts:
    shortcuts = new_shortcuts(model, variant, **_SIZES)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in shortcuts.named_parameters():
        std = 0.5 if "routers" in name else 0.1
        torch.nn.init.normal_(parameter, 0.0, std, generator)
        if "feedback.norm.weight" in name:
            torch.nn.init.normal_(parameter, 0.15, 0.01, generator)
        if "feedback.norm.bias" in name:
            torch.nn.init.normal_(parameter, 0.0, 1.0, generator)
        if name.endswith("out.weight") and "routers" in name:
            parameter *= 2
    return shortcuts


class Shortcut:
    """A model's directory, and what the reference makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(path)
        self.end = self.tokenizer.convert_tokens_to_ids("</think>")

    @functools.cached_property
    def _student(self) -> tuple[Any, Shortcuts]:
        model = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)
        shortcuts, _ = read_weights(self.path / "shortcuts", model)
        return model, shortcuts

    def reference(self, depth: float | None) -> Reference:
        """The student at the start of a sequence, as its files hold it."""
        return Reference(*self._student, depth)

    def prompt(self, content: str) -> tuple[int, ...]:
        """A question, its thinking opened."""
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)


def tiny(root: Path, write: Callable[..., Path], variant: Variant = BOTH) -> Shortcut:
    """A teacher of `write`'s family, and a student whose weights are others, with its shortcuts."""
    path = write(root, num_hidden_layers=4, seed=1)
    student = AutoModelForCausalLM.from_pretrained(
        write(root / "student", num_hidden_layers=4, seed=2), dtype=torch.float32
    )
    with torch.no_grad():
        shortcuts = _random_shortcuts(student, variant, seed=3)
    write_weights(student, shortcuts, path / "shortcuts")
    return Shortcut(path)


def llama(root: Path, variant: Variant = BOTH) -> Shortcut:
    return tiny(root, models.tiny_llama, variant)


def qwen2(root: Path) -> Shortcut:
    return tiny(root, models.tiny_qwen2)


def qwen3(root: Path) -> Shortcut:
    return tiny(root, models.tiny_qwen3)
