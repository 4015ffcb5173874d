"""A Llama that is read in stretches, with a cache that gradients flow through, and open to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

Tensors = list[torch.Tensor]
Mix = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]  # layer, its input, its output


class Segment(NamedTuple):
    """A stretch of S positions, read at once."""

    states: Tensors  # L + 1 of [B, S, H]: the input, and every layer's output before the final norm
    keys: Tensors  # L of [B, heads, T, head size], of all T positions up to the last one read
    values: Tensors
    gates: Tensors = []  # noqa: RUF012 # of those who change layers: what they say of each


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos.unsqueeze(1) + torch.cat([-second, first], dim=-1) * sin.unsqueeze(1)


def _layer(
    layer: Any,
    x: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor] | None,
    rotation: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One decoder layer's output, and its keys and values with the past ones before them."""
    attention, normed = layer.self_attn, layer.input_layernorm(x)
    query, key, value = (
        projection(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = _rotated(query, *rotation), _rotated(key, *rotation)
    if past is not None:
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
    is_grouped = query.shape[1] != key.shape[1]
    found = F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=is_grouped)
    x = x + attention.o_proj(found.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.post_attention_layernorm(x)), key, value


def causal_mask(is_token: torch.Tensor, num_new: int) -> torch.Tensor:
    """What the last `num_new` of [B, T] positions may attend to, bool [B, 1, num_new, T].

    Padding attends to itself, for a softmax over nothing is undefined.
    """
    columns = torch.arange(is_token.shape[1])
    rows = columns[-num_new:, None]
    return ((is_token[:, None] & (columns <= rows)) | (columns == rows)).unsqueeze(1)


class Reader(nn.Module):
    """A transformers Llama. Not compiled: on a CPU that took minutes and won nothing."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def segment(
        self,
        x: torch.Tensor,
        past: tuple[Tensors, Tensors] | None,
        positions: torch.Tensor,
        mask: torch.Tensor,
        mix: Mix | None = None,
    ) -> Segment:
        """Read inputs [B, S, H] after `past` keys and values; `mix` may change layers' outputs."""
        rotation = self.model.model.rotary_emb(x, positions)
        states, keys, values = [x], Tensors(), Tensors()
        for index, layer in enumerate(self.model.model.layers):
            known = None if past is None else (past[0][index], past[1][index])
            full, key, value = _layer(layer, x, known, rotation, mask)
            x = full if mix is None else mix(index, x, full)
            states.append(x)
            keys.append(key)
            values.append(value)
        return Segment(states, keys, values)

    def normed(self, state: torch.Tensor) -> torch.Tensor:
        """A layer's output after the final norm: what the head reads at the last layer."""
        found: torch.Tensor = self.model.model.norm(state)
        return found

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The head, on states after the final norm."""
        found: torch.Tensor = self.model.lm_head(hidden)
        return found

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings."""
        found: torch.Tensor = self.model.model.embed_tokens(ids)
        return found

    def prompt(self, ids: torch.Tensor, is_prompt: torch.Tensor) -> Tape:
        """Read prompts, int64 [B, P] padded on the left."""
        tape = Tape(self)
        tape.extend(self.embed(ids), is_prompt)
        return tape


@dataclass
class Tape:
    """A batch in progress: the keys and values so far, and which positions are no padding."""

    reader: Reader
    past: tuple[Tensors, Tensors] | None = None
    is_token: torch.Tensor | None = field(default=None, repr=False)
    last: torch.Tensor = field(default_factory=lambda: torch.empty(0))  # [B, 1, H], after the norm

    def fork(self) -> Tape:
        """A tape that goes on from here on its own; gradients of both reach what was read."""
        return replace(self)

    def extend(self, x: torch.Tensor, is_token: torch.Tensor, mix: Mix | None = None) -> Segment:
        """Read inputs [B, S, H], of which bool [B, S] are no padding."""
        old = [] if self.is_token is None else [self.is_token]
        self.is_token = torch.cat([*old, is_token], dim=1)
        num_new = x.shape[1]
        positions = (self.is_token.cumsum(1) - 1).clamp_min(0)[:, -num_new:]
        mask = causal_mask(self.is_token, num_new)
        found = self.reader.segment(x, self.past, positions, mask, mix)
        self.past = found.keys, found.values
        self.last = self.reader.normed(found.states[-1][:, -1:])
        return found
