"""The sizes of well-known models, as their config.json gives them, and the memory of GPUs."""

from __future__ import annotations

from typing import Any


def _dense(
    kind: str,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate: int,
    vocab: int,
    context: int,
    tied: bool = False,
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
    }


_QWEN3 = (151936, 40960)
_QWEN2 = (152064, 131072)
_LLAMA3 = (128256, 131072)
PRESETS: dict[str, dict[str, Any]] = {
    "Qwen3-0.6B": _dense("qwen3", 28, 1024, 16, 8, 128, 3072, *_QWEN3, tied=True),
    "Qwen3-1.7B": _dense("qwen3", 28, 2048, 16, 8, 128, 6144, *_QWEN3, tied=True),
    "Qwen3-4B": _dense("qwen3", 36, 2560, 32, 8, 128, 9728, *_QWEN3, tied=True),
    "Qwen3-8B": _dense("qwen3", 36, 4096, 32, 8, 128, 12288, *_QWEN3),
    "Qwen3-14B": _dense("qwen3", 40, 5120, 40, 8, 128, 17408, *_QWEN3),
    "Qwen3-32B": _dense("qwen3", 64, 5120, 64, 8, 128, 25600, *_QWEN3),
    "Qwen3-30B-A3B": {
        **_dense("qwen3_moe", 48, 2048, 32, 4, 128, 6144, *_QWEN3),
        "num_experts": 128,
        "moe_intermediate_size": 768,
    },
    "DeepSeek-R1-Distill-Qwen-7B": _dense("qwen2", 28, 3584, 28, 4, 128, 18944, *_QWEN2),
    "DeepSeek-R1-Distill-Qwen-32B": _dense("qwen2", 64, 5120, 40, 8, 128, 27648, *_QWEN2),
    "DeepSeek-R1-Distill-Llama-8B": _dense("llama", 32, 4096, 32, 8, 128, 14336, *_LLAMA3),
    "Llama-3.2-1B": _dense("llama", 16, 2048, 32, 8, 64, 8192, *_LLAMA3, tied=True),
    "Llama-3.2-3B": _dense("llama", 28, 3072, 24, 8, 128, 8192, *_LLAMA3, tied=True),
    "Llama-3.1-8B": _dense("llama", 32, 4096, 32, 8, 128, 14336, *_LLAMA3),
    "Llama-3.1-70B": _dense("llama", 80, 8192, 64, 8, 128, 28672, *_LLAMA3),
    "gpt-oss-20b": {
        **_dense("gpt_oss", 24, 2880, 64, 8, 64, 2880, 201088, 131072),
        "num_local_experts": 32,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "quantization_config": {"quant_method": "mxfp4"},
    },
}
_OWNERS = {"Qwen": "Qwen", "DeepSeek": "deepseek-ai", "Llama": "meta-llama", "gpt-oss": "openai"}
# GiB that nvidia-smi shows as the total.
GPU_GIB: dict[str, float] = {
    "T4": 15.0,
    "L4": 22.5,
    "A10G": 22.5,
    "RTX4090": 24.0,
    "A100-40GB": 40.0,
    "L40S": 45.0,
    "H100": 79.6,
    "A100-80GB": 80.0,
    "H200": 140.4,
    "B200": 179.1,
}


def hub_id(name: str) -> str:
    """Where the hub has a preset."""
    owners = (owner for prefix, owner in _OWNERS.items() if name.startswith(prefix))
    return f"{next(owners)}/{name}"
