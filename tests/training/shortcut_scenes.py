"""A tokenizer, a tiny random Llama with random shortcuts, and batches for the tests of shortcuts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from sottovoce_training.families import FAMILIES, Problem
from sottovoce_training.reasoner.tokenizer import completion_of, prompt_of, train_tokenizer
from sottovoce_training.shortcuts.criticality import derived
from sottovoce_training.shortcuts.data import Batch, Example, example_of
from sottovoce_training.shortcuts.modules import Shortcuts, Variant
from sottovoce_training.shortcuts.student import Student, new_shortcuts

BOTH = Variant()
VARIANTS = [BOTH, Variant(step=False), Variant(depth=False)]


@functools.cache
def problems() -> list[Problem]:
    return [p for family in FAMILIES.values() for p in family.problems("train", 0, 12)]


@functools.cache
def tokenizer() -> Any:
    texts = [prompt_of(p.question) + completion_of(p.chain.text, p.answer) for p in problems()]
    return train_tokenizer(texts, [p.question for p in problems()])


def examples(*indices: int) -> list[Example]:
    return [example_of(tokenizer(), problems()[i], derived) for i in indices]


def new_model(seed: int = 0) -> Any:
    """Three layers of width 32, two query heads to a key head, tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        tie_word_embeddings=True, pad_token_id=tokenizer().pad_token_id, bos_token_id=None,
        eos_token_id=tokenizer().eos_token_id, rope_theta=10_000.0, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def random_shortcuts(model: Any, variant: Variant = BOTH, seed: int = 1) -> Shortcuts:
    """Every parameter random, so that no term is zero and routers disagree."""
    torch.manual_seed(seed)
    shortcuts = new_shortcuts(model, variant, adapter_rank=8, router_width=8)
    for parameter in shortcuts.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for router in shortcuts.routers:
        torch.nn.init.normal_(router.get_submodule("out").weight, std=1.0)
    return shortcuts


def new_student(variant: Variant = BOTH) -> Student:
    model = new_model()
    return Student(model, random_shortcuts(model, variant))


def save_teacher(path: Path) -> Path:
    """A model directory as the reasoner's export writes it."""
    new_model().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def row_of(batch: Batch, row: int) -> tuple[list[int], list[int]]:
    """The prompt and the text of one row, without padding."""
    prompt = batch.prompt_ids[row][batch.is_prompt[row]].tolist()
    return prompt, batch.text_ids[row][batch.is_text[row]].tolist()
