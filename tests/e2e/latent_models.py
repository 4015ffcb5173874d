"""Tiny random latent-trained models, and their loop in transformers, which shares no code with ours.

Heads are drawn as in `shortcut_models.py`, for the reason given there.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast

from e2e import models
from sottovoce_router.latent.manifest import Manifest

WIDTH, STRIDE, MAX_STEPS = 64, 2, 9
TEXT, END_OF_TEXT = 32, 0  # tokens of a step in words, at most, and what ends it
_GOLDEN, _FIRST, _SECOND = (
    np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
Words = NDArray[np.uint64]


def _feedback(prefix: str, draw: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}.hidden.weight": draw(WIDTH, WIDTH, std=0.1),
        f"{prefix}.hidden.bias": draw(WIDTH, std=0.1),
        f"{prefix}.out.weight": draw(WIDTH, WIDTH, std=0.1),
        f"{prefix}.out.bias": draw(WIDTH, std=0.1),
        f"{prefix}.norm.weight": draw(WIDTH, std=0.01, mean=0.15),
        f"{prefix}.norm.bias": draw(WIDTH, std=1.0),
    }


def _head(method: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int, std: float, mean: float = 0.0) -> torch.Tensor:
        return torch.empty(shape).normal_(mean, std, generator=generator)

    if method == "codi":
        return _feedback("projection", draw)
    if method == "coconut":
        return {}
    return {
        **_feedback("mean", draw),
        "log_std.weight": draw(WIDTH, WIDTH, std=0.02),
        "log_std.bias": draw(WIDTH, std=0.1, mean=-2.0),
        "stop.weight": draw(1, WIDTH, std=0.3),
        "stop.bias": draw(1, std=0.1, mean=-1.0),
    }


def _mixed(x: Words) -> Words:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def noise(seed: int, step: int) -> torch.Tensor:
    """What a request with a seed draws at a step: SplitMix64, then Box-Muller."""
    with np.errstate(over="ignore"):
        key = _mixed(_mixed(np.array([seed % 2**64], np.uint64) + _GOLDEN) ^ np.uint64(step))
        bits = _mixed(key + np.arange(1, WIDTH + 1, dtype=np.uint64) * _GOLDEN)
    first, second = bits >> np.uint64(32), bits & np.uint64(2**32 - 1)
    radius = np.sqrt(-2 * np.log((first + 0.5) / 2**32))
    return torch.from_numpy(radius * np.cos(2 * math.pi * second / 2**32)).float()


@dataclass(frozen=True)
class Thinking:
    """One generation by the reference."""

    num_latents: int
    logits: list[torch.Tensor]  # [V], of every generated token
    margin: float  # how near to 0 the stop head came
    latents: list[torch.Tensor]  # [H], those that were fed


class Latent:
    """A latent-trained model's directory, and what transformers makes of it."""

    def __init__(self, path: Path, method: str) -> None:
        self.path, self.method = path, method
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(path)
        self.end = self.tokenizer.convert_tokens_to_ids("</think>")

    @functools.cached_property
    def _model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)

    @functools.cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        path = self.path / "latent" / "head.safetensors"
        return load_file(path) if path.exists() else {}

    def prompt(self, content: str) -> tuple[int, ...]:
        """A question, its thinking opened."""
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _projected(self, prefix: str, h: torch.Tensor) -> torch.Tensor:
        w = {k.removeprefix(f"{prefix}."): v for k, v in self._weights.items()}
        inner = h @ w["hidden.weight"].T + w["hidden.bias"]
        inner = inner * 0.5 * (1.0 + torch.erf(inner / math.sqrt(2)))
        out = inner @ w["out.weight"].T + w["out.bias"]
        return F.layer_norm(out, (WIDTH,), w["norm.weight"], w["norm.bias"])

    def _next(self, h: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        if self.method == "coconut":
            return h
        if self.method == "codi":
            return self._projected("projection", h)
        w = self._weights
        log_std = (h @ w["log_std.weight"].T + w["log_std.bias"]).clamp(-10, 2)
        return self._projected("mean", h) + log_std.exp() * noise(seed, step)

    @torch.inference_mode()
    def think(
        self, prompt: tuple[int, ...], tokens: tuple[int, ...], steps: int, seed: int
    ) -> Thinking:
        """Read a prompt, latents, and then the tokens behind them but the last."""
        body, cache = self._model.base_model, DynamicCache()

        def read(inputs: torch.Tensor) -> torch.Tensor:
            found = body(inputs_embeds=inputs[None], past_key_values=cache, use_cache=True)
            return found.last_hidden_state[0, -1]

        embed = self._model.get_input_embeddings()
        states, margin, taken = [read(embed(torch.tensor(prompt)))], math.inf, 0
        latents: list[torch.Tensor] = []
        while taken < steps:
            latents.append(self._next(states[-1], seed, taken))
            states.append(read(latents[-1][None]))
            taken += 1
            if self.method == "atp" and taken % STRIDE == 0 and taken < steps:
                w = self._weights
                logit = float(states[-1] @ w["stop.weight"][0] + w["stop.bias"][0])
                margin = min(margin, abs(logit))
                if logit > 0:
                    break
        states += [read(embed(torch.tensor([token]))) for token in tokens[taken:-1]]
        return Thinking(taken, [self._model.lm_head(h) for h in states], margin, latents)

    @functools.cached_property
    def _decoder(self) -> Any:
        decoder = AutoModelForCausalLM.from_config(_one_layer(self.path))
        decoder.load_state_dict(
            load_file(self.path / "latent" / "decoder.safetensors"), strict=False
        )
        return decoder.eval()

    @torch.inference_mode()
    def words(self, latent: torch.Tensor) -> tuple[int, ...]:
        """What the step decoder reads in a latent [H], all of the text anew for each token."""
        embed, text = self._decoder.get_input_embeddings(), list[int]()
        while len(text) < TEXT:
            inputs = torch.cat([latent[None], embed(torch.tensor(text, dtype=torch.int64))])
            token = int(self._decoder(inputs_embeds=inputs[None]).logits[0, -1].argmax())
            if token == END_OF_TEXT:
                break
            text.append(token)
        return tuple(text)

    def reads(self, index: int) -> bool:
        """Whether the latent at an index is one that the decoder is for."""
        if self.method == "coconut":
            return False
        return self.method == "codi" or index % STRIDE == STRIDE - 1


def _one_layer(path: Path) -> Any:
    config = copy.deepcopy(AutoConfig.from_pretrained(path))
    config.num_hidden_layers = 1
    return config


def _write_decoder(path: Path) -> None:
    """One layer with matrices wide enough that texts differ, which end at some time."""
    decoder = AutoModelForCausalLM.from_config(_one_layer(path))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.4, generator=generator)
        decoder.get_output_embeddings().weight[END_OF_TEXT] *= 3.0
    tensors = {name: t.clone() for name, t in decoder.state_dict().items()}
    if decoder.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, path / "latent" / "decoder.safetensors")


def _trained(path: Path, method: str) -> Latent:
    stride, layers = STRIDE if method == "atp" else None, None if method == "coconut" else 1
    Manifest(method, 4, stride, MAX_STEPS, WIDTH, "<think>", "</think>", layers).write(path)
    if layers:
        _write_decoder(path)
    weights = _head(method)
    if weights:
        save_file(weights, path / "latent" / "head.safetensors")
    return Latent(path, method)


def llama(root: Path, method: str) -> Latent:
    return _trained(models.tiny_llama(root), method)


def gpt2(root: Path, method: str) -> Latent:
    return _trained(models.tiny_gpt2(root), method)
