"""The batched forward pass of training: parallel over prompt and text, step by step over latents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .data import Batch
from .modules import Gate, Shortcuts, Sizes, Variant

Tensors = list[torch.Tensor]


class Segment(NamedTuple):
    """A stretch of S positions, read at once."""

    states: Tensors  # L + 1 of [B, S, H]: the input, and every layer's output before the final norm
    gates: Tensors  # L of [B, S]: the share of the shortcut; empty where none is taken
    keys: Tensors  # L of [B, heads, T, head size], of all T positions up to the last one read
    values: Tensors


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


class Student(nn.Module):
    """A Llama with its shortcuts. Not compiled: on a CPU that took minutes and won nothing."""

    def __init__(self, model: Any, shortcuts: Shortcuts) -> None:
        super().__init__()
        self.model, self.shortcuts = model, shortcuts

    def segment(
        self,
        x: torch.Tensor,
        past: tuple[Tensors, Tensors] | None,
        positions: torch.Tensor,
        mask: torch.Tensor,
        gate: Gate | None,
        before: Tensors | None,
    ) -> Segment:
        """Read inputs [B, S, H] after `past` keys and values, in the plain student if no gate.

        `before` holds the states, L + 1 of [B, S, H], of the latent step before. A layer's keys and
        values come from its input also where the shortcut is taken.
        """
        rotation = self.model.model.rotary_emb(x, positions)
        states, gates, keys, values = [x], Tensors(), Tensors(), Tensors()
        for index, layer in enumerate(self.model.model.layers):
            known = None if past is None else (past[0][index], past[1][index])
            full, key, value = _layer(layer, x, known, rotation, mask)
            previous = None if before is None else before[index + 1]
            short = None
            if gate is not None:
                short = self.shortcuts.shortcut(index, x, previous)
            if gate is not None and short is not None:
                share = gate(self.shortcuts.routers[index](x))
                gates.append(share)
                full = share.unsqueeze(-1) * short + (1 - share).unsqueeze(-1) * full
            x = full
            states.append(x)
            keys.append(key)
            values.append(value)
        return Segment(states, gates, keys, values)

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
        """Read prompts, int64 [B, P] padded on the left, every layer in full."""
        tape = Tape(self)
        tape.extend(self.embed(ids), is_prompt)
        return tape

    def forward(self, batch: Batch, gate: Gate | None = None, prompt: Tape | None = None) -> Pass:
        """Prompt, latent steps and text. The gate acts on the latents and the text.

        `prompt` is that of an earlier pass over the same batch, which is then not read again.
        """
        if prompt is None:
            prompt = self.prompt(batch.prompt_ids, batch.is_prompt)
        tape = replace(prompt)
        latents = tape.think(batch.num_latents, gate)
        last = tape.last
        text = tape.extend(self.embed(batch.text_ids), batch.is_text, gate)
        ends = self.normed(text.states[-1])
        return Pass(torch.cat([last, ends[:, :-1]], dim=1), prompt, latents, text)


@dataclass(frozen=True)
class Pass:
    """What a forward pass over a batch leaves."""

    hidden: torch.Tensor  # [B, T, H]: after the final norm, at the position before each text token
    prompt: Tape
    latents: list[Segment]
    text: Segment

    def states(self) -> torch.Tensor:
        """Every layer's output at the latents, then at the text, [L, B, K + T, H]."""
        parts = [*self.latents, self.text]
        return torch.cat([torch.stack(part.states[1:]) for part in parts], dim=2)


@dataclass
class Tape:
    """A batch in progress: the keys and values so far, and which positions are no padding."""

    student: Student
    past: tuple[Tensors, Tensors] | None = None
    is_token: torch.Tensor | None = field(default=None, repr=False)
    last: torch.Tensor = field(default_factory=lambda: torch.empty(0))  # [B, 1, H], after the norm

    def extend(
        self,
        x: torch.Tensor,
        is_token: torch.Tensor,
        gate: Gate | None = None,
        before: Tensors | None = None,
    ) -> Segment:
        """Read inputs [B, S, H], of which bool [B, S] are no padding."""
        old = [] if self.is_token is None else [self.is_token]
        self.is_token = torch.cat([*old, is_token], dim=1)
        num_new = x.shape[1]
        positions = (self.is_token.cumsum(1) - 1).clamp_min(0)[:, -num_new:]
        mask = causal_mask(self.is_token, num_new)
        found = self.student.segment(x, self.past, positions, mask, gate, before)
        self.past = found.keys, found.values
        self.last = self.student.normed(found.states[-1][:, -1:])
        return found

    def think(self, num_latents: int, gate: Gate | None) -> list[Segment]:
        """Take latent steps; the first has no step before it: its step shortcut adds nothing."""
        is_real, found = torch.ones(len(self.last), 1, dtype=torch.bool), list[Segment]()
        for _ in range(num_latents):
            z = self.student.shortcuts.feedback(self.last)
            before = found[-1].states if found else None
            found.append(self.extend(z, is_real, gate, before))
        return found


def new_shortcuts(model: Any, variant: Variant, **sizes: int) -> Shortcuts:
    """Untrained shortcuts for a Llama; `sizes` overrides those of Sizes."""
    found = Sizes(model.config.num_hidden_layers, model.config.hidden_size, **sizes)
    return Shortcuts(found, variant, model.model.embed_tokens.weight.std().item())
