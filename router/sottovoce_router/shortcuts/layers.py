"""The student's pass over its part of a batch: layers that rows skip are left out of the arithmetic.

A row that skips a layer takes no part in its attention, output projection or MLP; its key and value
are written from the layer's input all the same. Which rows those are the host must know to size the
tensors of the rest: one wait for the device a layer, inherent to skipping without CUDA graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from vllm.model_executor.layers.attention.attention import unified_kv_cache_update

from ..latent.rows import Indices, uploaded
from .modules import Shortcuts
from .plan import Part, Routes


def _heads_normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = norm(x.reshape(-1, norm.hidden_size)).view(x.shape)
    return found


def _project(attention: Any, positions: torch.Tensor, normed: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values of normed inputs [n, H], as vLLM's own attention modules make them."""
    qkv, _ = attention.qkv_proj(normed)
    q, k, v = qkv.split([attention.q_size, attention.kv_size, attention.kv_size], dim=-1)
    if hasattr(attention, "q_norm"):  # Qwen3
        q, k = _heads_normed(attention.q_norm, q), _heads_normed(attention.k_norm, k)
    return [*attention.rotary_emb(positions, q, k), v]


def _write(attention: Any, k: torch.Tensor, v: torch.Tensor) -> None:
    shape = (-1, attention.num_kv_heads, attention.head_dim)
    unified_kv_cache_update(k.view(shape), v.view(shape), attention.attn.layer_name)


def _finished(layer: Any, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """A layer's output, from its input and what its heads found, both of the same rows."""
    hidden, _ = layer.self_attn.o_proj(attended)
    hidden, residual = layer.post_attention_layernorm(hidden, x)
    found: torch.Tensor = layer.mlp(hidden) + residual
    return found


@dataclass
class Pass:
    """One step of the student."""

    model: Any  # the student's LlamaModel, Qwen2Model or Qwen3Model
    shortcuts: Shortcuts
    before: torch.Tensor  # [slots, L, H], see `ShortcutSlots`
    part: Part
    num_skipped: Indices  # of each row of the part, counted here

    def run(self, x: torch.Tensor, positions: torch.Tensor, routes: Routes | None) -> torch.Tensor:
        """Inputs [n, H] to hidden states after the final norm, [n, H]."""
        with self.part.attention.entered():
            if routes is None:
                hidden: torch.Tensor = self.model(None, positions, None, x)
                return hidden
            for index, layer in enumerate(self.model.layers):
                x = self._layer(index, layer, x, positions, routes)
            hidden = self.model.norm(x)
        return hidden

    def _layer(
        self, index: int, layer: Any, x: torch.Tensor, positions: torch.Tensor, routes: Routes
    ) -> torch.Tensor:
        skips = self._skips(index, x, routes)
        skips_np = skips.cpu().numpy()
        if skips_np.any():
            out = self._partly(index, layer, x, positions, skips_np, routes.is_decode)
        else:
            hidden, residual = layer(positions, x, None)
            out = hidden + residual
        self._step_across(index, out, skips, skips_np, routes)
        return out

    def _skips(self, index: int, x: torch.Tensor, routes: Routes) -> torch.Tensor:
        """bool [n]: which rows skip the layer."""
        if routes.rows is None:
            asked: torch.Tensor = self.shortcuts.routers[index](x) > routes.depth
            return asked
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        found[routes.rows] = self.shortcuts.routers[index](x[routes.rows]) > routes.depth
        return found

    def _partly(
        self,
        index: int,
        layer: Any,
        x: torch.Tensor,
        positions: torch.Tensor,
        skips: np.ndarray[Any, np.dtype[np.bool_]],
        is_decode: bool,
    ) -> torch.Tensor:
        skipping, running = np.flatnonzero(skips), np.flatnonzero(~skips)
        self.num_skipped[skipping] += 1
        attention, out = layer.self_attn, torch.empty_like(x)
        q, k, v = _project(attention, positions, layer.input_layernorm(x))
        rows = uploaded(skipping, x.device)
        out[rows] = self.shortcuts.down(index, x[rows]).to(x.dtype)
        if not len(running):
            _write(attention, k, v)
            return out
        rows = uploaded(running, x.device)
        if is_decode:
            _write(attention, k, v)
            with self.part.attention.of(running, rows).entered(writes=False):
                attended = attention.attn(q[rows], k[rows], v[rows])
        else:
            attended = attention.attn(q, k, v)[rows]
        out[rows] = _finished(layer, x[rows], attended)
        return out

    def _step_across(
        self,
        index: int,
        out: torch.Tensor,
        skips: torch.Tensor,
        skips_np: np.ndarray[Any, np.dtype[np.bool_]],
        routes: Routes,
    ) -> None:
        """Add the step shortcut where latent steps skip, and keep what the next ones need."""
        for wave in routes.waves:
            made = out[wave.rows]
            if skips_np[wave.rows_np].any():
                before = self.before[wave.slots, index]
                added = (made.float() + self.shortcuts.across(index, before)).to(out.dtype)
                takes = (skips[wave.rows] & wave.follows).unsqueeze(1)
                made = torch.where(takes, added, made)
                out[wave.rows] = made
            self.before[wave.slots, index] = made
