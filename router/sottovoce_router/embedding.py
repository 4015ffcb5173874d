"""The model's input embedding as a table of rows to mix, on one rank or a shard of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed import get_tensor_model_parallel_world_size, tensor_model_parallel_all_reduce
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from .errors import PluginError


def _embedding_layer(model: Any) -> VocabParallelEmbedding | None:
    """The first vocabulary embedding of a model that is not its output head."""
    for module in model.modules():
        if type(module) is VocabParallelEmbedding:
            return module
    return None


@dataclass(frozen=True)
class EmbeddingTable:
    """This rank's rows, and how the model looks tokens up."""

    model: Any
    weight: torch.Tensor  # [rows of this shard, hidden]
    vocab_start: int
    scale: float
    world_size: int

    @staticmethod
    def is_plain(model: Any) -> bool:
        """Whether the model embeds by one floating-point table."""
        layer = _embedding_layer(model)
        return layer is not None and layer.weight.is_floating_point() and layer.weight.dim() == 2

    @classmethod
    def of(cls, model: Any, device: torch.device) -> EmbeddingTable:
        """Find the table and check that the model returns its rows times one number."""
        layer = _embedding_layer(model)
        assert layer is not None
        shard = layer.shard_indices
        rows = shard.org_vocab_end_index - shard.org_vocab_start_index
        table = layer.weight[:rows]
        world_size = get_tensor_model_parallel_world_size()
        scale = cls._scale(model, layer, device)
        return cls(model, table, shard.org_vocab_start_index, scale, world_size)

    @staticmethod
    def _scale(model: Any, layer: VocabParallelEmbedding, device: torch.device) -> float:
        ids = torch.arange(min(64, layer.org_vocab_size), device=device)
        start = layer.shard_indices.org_vocab_start_index
        end = layer.shard_indices.org_vocab_end_index
        is_here = (ids >= start) & (ids < end)
        local = layer.weight[(ids - start).clamp(0, end - start - 1)] * is_here[:, None]
        rows = tensor_model_parallel_all_reduce(local.contiguous())
        want, have = model.embed_input_ids(ids).double(), rows.double()
        scale = float((want * have).sum() / (have * have).sum().clamp(min=1e-30))
        if not torch.allclose(want, have * scale, rtol=2e-2, atol=1e-5):
            raise PluginError(
                "the model's input embedding is not its table times one number; "
                "soft modes cannot be served: start without a reasoning parser"
            )
        return 1.0 if abs(scale - 1.0) < 1e-3 else scale

    def lookup(self, input_ids: torch.Tensor, out: torch.Tensor) -> None:
        """Ordinary embeddings of a batch, as the model itself computes them."""
        if self.world_size == 1 and self.scale == 1.0:
            torch.index_select(self.weight, 0, input_ids, out=out)
        else:
            out.copy_(self.model.embed_input_ids(input_ids))

    def overlay(self, embeds: torch.Tensor, mix_into: Callable[[torch.Tensor], None]) -> None:
        """Mix the soft rows over `embeds`; with shards, each adds its part in one all-reduce."""
        if self.world_size == 1:
            mix_into(embeds)
            return
        parts = torch.full_like(embeds, torch.nan)
        mix_into(parts)
        is_soft = ~parts[:, :1].isnan()
        total = tensor_model_parallel_all_reduce(parts.nan_to_num(0.0))
        embeds.copy_(torch.where(is_soft, total, embeds))
