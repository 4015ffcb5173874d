"""How large a model is, from its config.json: its weights, and its KV cache per token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .presets import PRESETS, hub_id

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0}
_MXFP4_BYTES = 0.5 + 1 / 32  # a weight, and its part of the scale that a block of 32 shares
# What each kind has beside plain projections: biases of attention, norms of queries and keys.
_QKV_BIAS = frozenset({"qwen2", "gpt_oss"})
_OUTPUT_BIAS = frozenset({"gpt_oss"})
_QK_NORM = frozenset({"qwen3", "qwen3_moe"})
KNOWN_TYPES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gpt_oss")


class PlanError(ValueError):
    """A model, a machine or a load that cannot be planned; the message says what to do."""


def _integer(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise PlanError(
            f"config.json: {key} is {value!r}, not a number above 0; give the config.json of a "
            "decoder-only language model"
        )
    return value


@dataclass(frozen=True)
class ModelSize:
    """What memory depends on."""

    name: str
    served_as: str  # what `sottovoce serve` is given
    kind: str
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab: int
    intermediate: int  # of an expert, where there are any
    num_experts: int
    is_tied: bool
    max_context: int
    sliding_window: int  # 0: none
    num_sliding_layers: int
    is_mxfp4: bool  # the experts

    @classmethod
    def from_config(cls, name: str, served_as: str, config: Mapping[str, Any]) -> ModelSize:
        """Read a config.json.

        Raises:
            PlanError: of an unknown kind, or without a number that is needed.
        """
        kind = str(config.get("model_type"))
        if kind not in KNOWN_TYPES:
            raise PlanError(
                f"{name}: the model type {kind} is not known to the plan, which knows "
                f"{', '.join(KNOWN_TYPES)}; start it once and read vLLM's log instead"
            )
        heads, hidden = _integer(config, "num_attention_heads"), _integer(config, "hidden_size")
        num_experts = config.get("num_experts") or config.get("num_local_experts") or 0
        key = "moe_intermediate_size" if kind == "qwen3_moe" else "intermediate_size"
        window, num_sliding = _sliding(config)
        return cls(
            name=name,
            served_as=served_as,
            kind=kind,
            num_layers=_integer(config, "num_hidden_layers"),
            hidden=hidden,
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocab=_integer(config, "vocab_size"),
            intermediate=_integer(config, key),
            num_experts=num_experts,
            is_tied=bool(config.get("tie_word_embeddings", False)),
            max_context=_integer(config, "max_position_embeddings"),
            sliding_window=window,
            num_sliding_layers=num_sliding,
            is_mxfp4=_is_mxfp4(name, config),
        )

    @property
    def num_embedding_parameters(self) -> int:
        """Input embedding and, unless it is the same, the output head."""
        return self.vocab * self.hidden * (1 if self.is_tied else 2)

    @property
    def num_attention_parameters(self) -> int:
        """One layer's attention, with both of the layer's norms."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        total = self.hidden * (2 * queries + 2 * keys) + 2 * self.hidden
        total += (queries + 2 * keys) * (self.kind in _QKV_BIAS)
        total += self.hidden * (self.kind in _OUTPUT_BIAS)
        total += 2 * self.head_dim * (self.kind in _QK_NORM)
        return total + self.num_heads * (self.kind == "gpt_oss")  # attention sinks

    @property
    def num_mlp_weights(self) -> int:
        """One layer's matrices of the MLP, or of all experts."""
        return 3 * self.hidden * self.intermediate * max(self.num_experts, 1)

    @property
    def num_router_parameters(self) -> int:
        """One layer's choice of experts, and the biases that gpt-oss gives it and them."""
        total = self.hidden * self.num_experts
        if self.kind == "gpt_oss":
            total += self.num_experts * (1 + 2 * self.intermediate + self.hidden)
        return total

    @property
    def num_parameters(self) -> int:
        """All of them."""
        layer = self.num_attention_parameters + self.num_mlp_weights + self.num_router_parameters
        return self.num_embedding_parameters + self.num_layers * layer + self.hidden

    def weight_bytes(self, dtype: str) -> float:
        """Bytes of the weights; fp8 leaves the embeddings in 16 bits."""
        if self.is_mxfp4:
            packed = self.num_layers * self.num_mlp_weights
            return packed * _MXFP4_BYTES + (self.num_parameters - packed) * 2
        if dtype == "fp8":
            return self.num_parameters + float(self.num_embedding_parameters)
        return self.num_parameters * BYTES[dtype]

    def kv_bytes_per_token(self, kv_dtype: str, tensor_parallel: int) -> float:
        """Bytes of keys and values that one GPU keeps for a token that every layer remembers."""
        return self.num_layers * self._layer_kv_bytes(kv_dtype, tensor_parallel)

    def _layer_kv_bytes(self, kv_dtype: str, tensor_parallel: int) -> float:
        heads = max(self.num_kv_heads // tensor_parallel, 1)  # a head is copied, never cut
        return 2 * heads * self.head_dim * BYTES[kv_dtype]

    def kv_bytes(self, context: int, kv_dtype: str, tensor_parallel: int) -> float:
        """Bytes that one GPU keeps for a sequence of `context` tokens."""
        kept = min(context, self.sliding_window) * self.num_sliding_layers
        kept += context * (self.num_layers - self.num_sliding_layers)
        return kept * self._layer_kv_bytes(kv_dtype, tensor_parallel)


def _sliding(config: Mapping[str, Any]) -> tuple[int, int]:
    """The window, and how many layers have one."""
    kinds = config.get("layer_types") or []
    window = config.get("sliding_window") or 0
    num = sum(kind == "sliding_attention" for kind in kinds)
    if not kinds and window and config.get("use_sliding_window", True):
        num = int(config["num_hidden_layers"])
    return (window, num) if num else (0, 0)


def _is_mxfp4(name: str, config: Mapping[str, Any]) -> bool:
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method not in (None, "mxfp4"):
        raise PlanError(
            f"{name}: weights quantised by {method} are not known to the plan; give the unquantised "
            "model's config.json, with --dtype fp8 if a weight takes a byte"
        )
    return method is not None


def _preset(name: str) -> ModelSize:
    known = {preset.lower(): preset for preset in PRESETS}
    preset = known.get(name.split("/")[-1].lower())
    if preset is None:
        raise PlanError(
            f"no model {name}: give a config.json, its directory, or one of {', '.join(PRESETS)}"
        )
    return ModelSize.from_config(preset, hub_id(preset), PRESETS[preset])


def read_model(name: str) -> ModelSize:
    """A config.json, or a directory that holds one, else a preset by its name.

    Raises:
        PlanError: where there is neither.
    """
    path = Path(name)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        return _preset(name)
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise PlanError(f"{path} is not JSON: {error}") from None
    return ModelSize.from_config(path.resolve().parent.name, str(path.parent), config)
