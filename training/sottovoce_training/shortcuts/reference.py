"""The inference rule in plain torch: float32, one sequence, one position at a time, with a cache.

Served logits are compared with these, so nothing is shared with the batched pass but the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .modules import NORM_EPS, Shortcuts

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Position:
    """What reading one input leaves."""

    states: list[torch.Tensor]  # L + 1 of [H]: the input, then every layer's output
    gates: list[float]  # w of each layer; empty where no router is asked
    is_skipped: list[bool]  # of each layer
    logits: torch.Tensor  # [V], of the token after this position


def _norm(x: torch.Tensor, weight: torch.Tensor | float, eps: float) -> torch.Tensor:
    return x / (x.square().mean() + eps).sqrt() * weight


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / 2.0**0.5))


class Reference:
    """A sequence in progress.

    `depth`: a layer whose w is above it is skipped, at latent steps and in the text, never in the
    prompt, whose cache blocks then serve requests of any depth. None skips nothing.
    """

    def __init__(self, model: Any, shortcuts: Shortcuts, depth: float | None = None) -> None:
        config = model.config
        self.num_layers, self.eps = config.num_hidden_layers, config.rms_norm_eps
        self.head_size = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        self.theta = config.rope_parameters["rope_theta"]
        self.weights: Weights = {k: v.detach().float() for k, v in model.state_dict().items()}
        self.added: Weights = {k: v.detach().float() for k, v in shortcuts.state_dict().items()}
        self.depth, self.variant = depth, shortcuts.variant
        self.keys: list[list[torch.Tensor]] = [[] for _ in range(self.num_layers)]
        self.values: list[list[torch.Tensor]] = [[] for _ in range(self.num_layers)]
        self.positions: list[Position] = []

    def prompt(self, ids: Sequence[int]) -> Position:
        """Read a prompt, every layer in full."""
        return [self._read(self._embedded(token), is_routed=False) for token in ids][-1]

    def think(self, steps: int) -> list[Position]:
        """Take latent steps, each from the state at which the position before it halted."""
        found: list[Position] = []
        for _ in range(steps):
            hidden = self._final(self.positions[-1].states[-1])
            before = found[-1].states if found else None
            found.append(self._read(self._feedback(hidden), is_routed=True, before=before))
        return found

    def text(self, ids: Sequence[int]) -> list[Position]:
        """Read tokens of the thought or the answer: the depth shortcut alone acts on them."""
        return [self._read(self._embedded(token), is_routed=True) for token in ids]

    def write(self, stop_id: int, max_tokens: int) -> list[int]:
        """Go on greedily, the stop token included."""
        found: list[int] = []
        while len(found) < max_tokens and stop_id not in found:
            found.append(int(self.positions[-1].logits.argmax()))
            self.text(found[-1:])
        return found

    def _embedded(self, token: int) -> torch.Tensor:
        return self.weights["model.embed_tokens.weight"][token]

    def _final(self, state: torch.Tensor) -> torch.Tensor:
        return _norm(state, self.weights["model.norm.weight"], self.eps)

    def _affine(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.added[f"{name}.weight"] @ x + self.added[f"{name}.bias"]

    def _feedback(self, hidden: torch.Tensor) -> torch.Tensor:
        z = self._affine("feedback.out", _gelu(self._affine("feedback.hidden", hidden)))
        z = (z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt()
        return z * self.added["feedback.norm.weight"] + self.added["feedback.norm.bias"]

    def _adapter(self, index: int, x: torch.Tensor) -> torch.Tensor:
        inner = _gelu(self._affine(f"adapters.{index}.down", _norm(x, 1.0, NORM_EPS)))
        return self._affine(f"adapters.{index}.up", inner)

    def _gate(self, index: int, x: torch.Tensor) -> float:
        inner = _gelu(self._affine(f"routers.{index}.hidden", _norm(x, 1.0, NORM_EPS)))
        return torch.sigmoid(self._affine(f"routers.{index}.out", inner)).item()

    def _rotated(self, x: torch.Tensor, position: int) -> torch.Tensor:
        """x [heads, head size] turned by its position, pairs being (i, i + head size / 2)."""
        half = self.head_size // 2
        exponents = torch.arange(half, dtype=torch.float32) * 2 / self.head_size
        angle = position / self.theta**exponents
        a, b = x[:, :half], x[:, half:]
        turned = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
        return torch.cat(turned, dim=1)

    def _heads(self, layer: int, part: str, normed: torch.Tensor) -> torch.Tensor:
        """[heads, head size] of q, k or v; Qwen2 adds a bias to each, Qwen3 norms q and k."""
        name = f"model.layers.{layer}.self_attn.{part}"
        found = self.weights[f"{name}_proj.weight"] @ normed
        found = (found + self.weights.get(f"{name}_proj.bias", 0.0)).view(-1, self.head_size)
        norm = self.weights.get(f"{name}_norm.weight")
        if norm is None:
            return found
        return torch.stack([_norm(head, norm, self.eps) for head in found])

    def _remember(self, layer: int, normed: torch.Tensor, position: int) -> None:
        self.keys[layer].append(self._rotated(self._heads(layer, "k", normed), position))
        self.values[layer].append(self._heads(layer, "v", normed))

    def _full(self, layer: int, x: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """A whole layer; this position's key and value are in the cache already."""
        name, position = f"model.layers.{layer}", len(self.keys[layer]) - 1
        weights = self.weights
        query = self._heads(layer, "q", normed)
        keys, values = torch.stack(self.keys[layer]), torch.stack(self.values[layer])
        group = query.shape[0] // keys.shape[1]
        keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
        scores = torch.einsum("hd,thd->ht", self._rotated(query, position), keys)
        shares = (scores / self.head_size**0.5).softmax(dim=1)
        found = torch.einsum("ht,thd->hd", shares, values).flatten()
        x = x + weights[f"{name}.self_attn.o_proj.weight"] @ found
        inner = _norm(x, weights[f"{name}.post_attention_layernorm.weight"], self.eps)
        opened = torch.nn.functional.silu(weights[f"{name}.mlp.gate_proj.weight"] @ inner)
        inner = opened * (weights[f"{name}.mlp.up_proj.weight"] @ inner)
        return x + weights[f"{name}.mlp.down_proj.weight"] @ inner

    def _short(
        self, layer: int, x: torch.Tensor, before: torch.Tensor | None
    ) -> torch.Tensor | None:
        previous = before if self.variant.step else None
        if self.variant.depth:
            short = x + self._adapter(layer, x)
            return short if previous is None else short + self._adapter(layer + 1, previous)
        return None if previous is None else previous + self._adapter(layer + 1, previous)

    @torch.no_grad()
    def _read(
        self, x: torch.Tensor, is_routed: bool, before: list[torch.Tensor] | None = None
    ) -> Position:
        position, states, gates, is_skipped = len(self.positions), [x], list[float](), list[bool]()
        for layer in range(self.num_layers):
            name = f"model.layers.{layer}.input_layernorm.weight"
            normed = _norm(x, self.weights[name], self.eps)
            self._remember(layer, normed, position)
            short = self._short(layer, x, None if before is None else before[layer + 1])
            skips = False
            if is_routed and self.depth is not None and short is not None:
                gates.append(self._gate(layer, x))
                skips = gates[-1] > self.depth
            x = short if skips and short is not None else self._full(layer, x, normed)
            states.append(x)
            is_skipped.append(skips)
        logits = self.weights["lm_head.weight"] @ self._final(x)
        found = Position(states, gates, is_skipped, logits)
        self.positions.append(found)
        return found
