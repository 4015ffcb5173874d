"""Three tiny random models with a thinking chat template, small enough for Triton's interpreter.

Wide output rows let p_max run from 0.2 to 1, so that every route is taken. Soft feedback through
independent random rows is chaotic: a rounding error grows threefold a step, and no two float32
implementations agree past a dozen steps. Hence a shared mean in the embeddings and wide attention
scores: what varies the output is the position, and errors shrink as they do in a trained model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SPECIAL_TOKENS = ("<eos>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
VOCAB_SIZE = 384

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n<think>\\n' }}
{%- endif -%}
"""

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # the smallest that vLLM's CPU attention takes
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def _tokenizer() -> PreTrainedTokenizerFast:
    """The 256 bytes, pairs of ASCII letters until the vocabulary is full, and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *letters))}
    pairs = [(a, b) for b in "aeiou" for a in "tnshrdlcmwfgypbvkjxqz"] + [
        ("Ġ", c) for c in "taoswi"
    ]
    merges = pairs[: VOCAB_SIZE - len(vocab)]
    missing = VOCAB_SIZE - len(vocab) - len(merges)
    merges += [(a, "y") for a in "tnshrdlcmwfgpbvkzx"][:missing]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    assert len(vocab) == VOCAB_SIZE
    inner = Tokenizer(BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>", chat_template=CHAT_TEMPLATE
    )


def _std(name: str, attention: float) -> float:
    if "lm_head" in name:
        return 0.5
    if "embed" in name:
        return 1.0
    if "wte" in name or "wpe" in name:  # of GPT-2, whose table is its head too
        return 0.5
    if "q_proj" in name or "k_proj" in name or "c_attn" in name:
        return attention
    return 0.8 if "v_proj" in name or "o_proj" in name else 0.05


def _draw(model: Any, attention: float, mean: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            spread = 0.3 if "self_attn" in name else 0.1
            torch.nn.init.normal_(parameter, 0.0, spread, generator)
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.1, generator)
            if "q_norm" in name or "k_norm" in name:
                parameter *= 8 * attention  # undoes the norm
        else:
            torch.nn.init.normal_(parameter, 0.0, _std(name, attention), generator)
    table = model.get_input_embeddings().weight
    table += mean * torch.randn(table.shape[1], generator=generator)


def _write(model: Any, target: Path, attention: float, mean: float, seed: int) -> Path:
    with torch.no_grad():
        _draw(model, attention, mean, seed)
    model.float().save_pretrained(target)
    _tokenizer().save_pretrained(target)
    (target / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    return target


def tiny_llama(root: Path, seed: int = 1, **shape: Any) -> Path:
    """A 2-layer Llama, written to `root`."""
    config = LlamaConfig(**{**_SHAPE, **shape}, tie_word_embeddings=False)
    return _write(LlamaForCausalLM(config), root / "tiny-llama", 0.35, 1.4, seed)


def tiny_qwen2(root: Path, seed: int = 1, **shape: Any) -> Path:
    """A 2-layer Qwen2 (biases on queries, keys and values), written to `root`."""
    # Its head size is always the width over the number of heads.
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(**{**_SHAPE, **heads, **shape}, tie_word_embeddings=False)
    return _write(Qwen2ForCausalLM(config), root / "tiny-qwen2", 0.35, 1.4, seed)


def tiny_qwen3(root: Path, seed: int = 1, **shape: Any) -> Path:
    """A 2-layer Qwen3 (query and key norms), written to `root`."""
    config = Qwen3Config(**{**_SHAPE, **shape}, tie_word_embeddings=False)
    return _write(Qwen3ForCausalLM(config), root / "tiny-qwen3", 0.4, 2.0, seed)


def tiny_gpt2(root: Path, seed: int = 1) -> Path:
    """A 2-layer GPT-2 (learned positions, tied embeddings), written to `root`."""
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=64, n_layer=2, n_head=2, n_positions=1024,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return _write(GPT2LMHeadModel(config), root / "tiny-gpt2", 0.35, 1.4, seed)
