"""The reasoner's architecture."""

from __future__ import annotations

from typing import Any

MAX_POSITIONS = 2048


def new_model(vocab_size: int, pad_id: int, eos_id: int) -> Any:
    """A freshly initialised Llama of about 5.4 million parameters, in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=256, intermediate_size=768, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True, pad_token_id=pad_id, bos_token_id=None, eos_token_id=eos_id,
        rope_theta=10_000.0, initializer_range=0.02,
    )  # fmt: skip
    return LlamaForCausalLM(config)
