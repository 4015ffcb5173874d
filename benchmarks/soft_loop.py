"""A plain transformers loop for Soft Thinking on a static batch: what a user has without an engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

TEMPERATURE, TOP_K, TOP_P, MIN_P, TOP_N = 0.6, 30, 0.95, 0.001, 10


class SoftLoop:
    """The model, with a key-value cache, one mixture a step."""

    def __init__(self, model_path: str, dtype: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=getattr(torch, dtype)
        )
        self._model.eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model_path)
        self._table = self._model.get_input_embeddings().weight

    def _mixture(self, logits: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(logits.float() / TEMPERATURE, dim=-1)
        top = torch.topk(p, TOP_K, dim=-1)
        ahead = top.values.cumsum(-1) - top.values
        keep = (ahead < TOP_P) & (top.values >= MIN_P * top.values[:, :1])
        keep[:, TOP_N:] = False
        w = torch.where(keep, top.values, 0.0)[:, :TOP_N]
        w = w / w.sum(-1, keepdim=True)
        rows = self._table[top.indices[:, :TOP_N]].float()
        return torch.bmm(w[:, None], rows).to(self._table.dtype)

    @torch.inference_mode()
    def run_batch(self, prompt: str, batch_size: int, steps: int) -> float:
        """Seconds for `steps` tokens of every row of one static batch."""
        ids = self._tokenizer(prompt, return_tensors="pt").input_ids.repeat(batch_size, 1)
        started = time.perf_counter()
        out = self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
        for _ in range(steps - 1):
            embeds = self._mixture(out.logits[:, -1])
            out = self._model(
                inputs_embeds=embeds, past_key_values=out.past_key_values, use_cache=True
            )
        return time.perf_counter() - started

    def run(self, prompt: str, lengths: Sequence[int], batch_size: int) -> float:
        """Seconds for all requests, in static batches that last as long as their longest row."""
        total = 0.0
        for i in range(0, len(lengths), batch_size):
            part = lengths[i : i + batch_size]
            total += self.run_batch(prompt, len(part), max(part))
        return total
