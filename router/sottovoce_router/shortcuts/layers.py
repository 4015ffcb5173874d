"""The student's pass over its part of a batch: layers that rows skip are left out of the arithmetic.

A row that skips a layer takes no part in its output projection or MLP, nor in its attention unless
its context is short; its key and value are written from the layer's input all the same. Which rows
those are the host must know to size the tensors of the rest: one wait for the device a layer,
inherent to skipping without CUDA graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from vllm.model_executor.layers.attention.attention import unified_kv_cache_update

from ..latent.rows import Bools, Indices, uploaded
from .modules import Entrance, Shortcuts
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


# Positions attended to in vain that take about as long as attention metadata for the other rows.
_LEAST_CONTEXT = 512


@dataclass
class Pass:
    """One step of the student."""

    model: Any  # the student's LlamaModel, Qwen2Model or Qwen3Model
    shortcuts: Shortcuts
    before: torch.Tensor  # [slots, L, H], see `ShortcutSlots`
    part: Part
    num_skipped: Indices  # of each row of the part, counted here

    @cached_property
    def _contexts(self) -> Indices:
        """Of each request at least as many positions as it attends to, or a few more."""
        found: Indices = self.part.attention.batch.seq_lens_cpu_upper_bound.numpy()
        return found

    def run(self, x: torch.Tensor, positions: torch.Tensor, routes: Routes | None) -> torch.Tensor:
        """Inputs [n, H] to hidden states after the final norm, [n, H]."""
        with self.part.entered():
            if routes is None:  # its call would compile it, while a request waits
                hidden: torch.Tensor = self.model.forward(None, positions, None, x)
                return hidden
            for index, layer in enumerate(self.model.layers):
                x = self._layer(index, layer, x, positions, routes)
            hidden = self.model.norm(x)
        return hidden

    def _layer(
        self, index: int, layer: Any, x: torch.Tensor, positions: torch.Tensor, routes: Routes
    ) -> torch.Tensor:
        entrance = self.shortcuts.entrances[index]
        opened = entrance.opened(x if routes.rows is None else x[routes.rows])
        skips = entrance.gate(opened).cpu().numpy() > routes.limits
        if skips.any():
            out = self._partly(layer, entrance, x, positions, opened, skips, routes)
        else:
            hidden, residual = layer(positions, x, None)
            out = hidden.add_(residual)
        if routes.waves:
            self._step_across(index, out, routes.rows_np[skips], routes)
        return out

    def _partly(
        self,
        layer: Any,
        entrance: Entrance,
        x: torch.Tensor,
        positions: torch.Tensor,
        opened: torch.Tensor,
        skips: Bools,
        routes: Routes,
    ) -> torch.Tensor:
        """A layer's outputs, where rows skip it: those of `skips`, [n] of the rows in `routes`."""
        attention = layer.self_attn
        q, k, v = _project(attention, positions, layer.input_layernorm(x))
        if routes.rows is None and skips.all():
            self.num_skipped += 1
            _write(attention, k, v)
            return entrance.down(x, opened).to(x.dtype)
        skipping = routes.rows_np[skips]
        self.num_skipped[skipping] += 1
        rows, out = uploaded(skipping, x.device), torch.empty_like(x)
        of_asked = rows if routes.rows is None else uploaded(np.flatnonzero(skips), x.device)
        chosen = x.index_select(0, rows), opened.index_select(0, of_asked)
        out.index_copy_(0, rows, entrance.down(*chosen).to(x.dtype))
        runs = np.ones(len(x), dtype=bool)
        runs[skipping] = False
        if runs.any():
            rows, attended = self._attended(attention, q, k, v, runs, routes)
            out.index_copy_(0, rows, _finished(layer, x.index_select(0, rows), attended))
        else:
            _write(attention, k, v)
        return out

    def _attended(
        self,
        attention: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        runs: Bools,
        routes: Routes,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that run, and what their heads find; the keys and values of all are written."""
        running = np.flatnonzero(runs)
        rows = uploaded(running, q.device)
        if not routes.is_decode or self._contexts[~runs].sum() < _LEAST_CONTEXT:
            return rows, attention.attn(q, k, v).index_select(0, rows)
        _write(attention, k, v)
        with self.part.attention.of(running, rows).entered(writes=False):
            return rows, attention.attn(*(part.index_select(0, rows) for part in (q, k, v)))

    def _step_across(
        self, index: int, out: torch.Tensor, skipping: Indices, routes: Routes
    ) -> None:
        """Add the step shortcut where latent steps skip, and keep what the next ones need."""
        for wave in routes.waves:
            takes = wave.follows_np & np.isin(wave.rows_np, skipping)
            made = out[wave.rows]
            if takes.any():
                at = uploaded(np.flatnonzero(takes), out.device)
                before = self.before[wave.slots[at], index]
                made[at] = (made[at].float() + self.shortcuts.across(index, before)).to(out.dtype)
                out[wave.rows] = made
            self.before[wave.slots, index] = made
