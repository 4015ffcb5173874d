"""A plain transformers loop: what a user has without an engine, as a program of `engine.py`.

A static batch whose rows are filled again as their requests end (`refills`), or once all have ended.
A row that has nothing left to do is computed with the others until they end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..engine import answer_jobs
from .policies import Explicit, Policy, Soft, Swi


class _Rows:
    """The key-value cache of a batch: right-aligned, so that a row's first column is all it needs."""

    def __init__(self, model: Any, ids: torch.Tensor, batch_size: int) -> None:
        self._model, self._ids = model, ids
        self._first = torch.zeros(batch_size, dtype=torch.int64)  # column of a row's first position
        out = model(input_ids=ids.expand(batch_size, -1), use_cache=True, logits_to_keep=1)
        self._cache, self.logits = out.past_key_values, out.logits[:, -1]

    @property
    def num_columns(self) -> int:
        """Columns of the cache."""
        return int(self._cache.get_seq_length())

    def step(self, embeds: torch.Tensor) -> None:
        """Feed a row each, [B, hidden]."""
        columns = torch.arange(self.num_columns + 1)
        out = self._model(
            inputs_embeds=embeds[:, None],
            past_key_values=self._cache,
            attention_mask=(columns >= self._first[:, None]).long(),
            position_ids=(self.num_columns - self._first)[:, None],
            use_cache=True,
        )
        self.logits = out.logits[:, -1]

    def refill(self, row: int) -> None:
        """Give a row to a new request: its prompt's keys and values, over the last columns."""
        out, num = (
            self._model(input_ids=self._ids, use_cache=True, logits_to_keep=1),
            self._ids.shape[1],
        )
        for layer, new in zip(self._cache.layers, out.past_key_values.layers, strict=True):
            layer.keys[row, :, -num:] = new.keys[0]
            layer.values[row, :, -num:] = new.values[0]
        self._first[row] = self.num_columns - num
        self.logits[row] = out.logits[0, -1]
        spare = int(self._first.min())  # columns that no row needs any longer
        if spare:
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, spare:], layer.values[:, :, spare:]
            self._first -= spare


class Loop:
    """A model and what decides its inputs."""

    def __init__(
        self, model_path: str, dtype: str, policy: str, end_marker: str = "</think>"
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=getattr(torch, dtype)
        )
        self._model.eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model_path)
        self._table = self._model.get_input_embeddings().weight
        self._policy, self._end_marker = policy, end_marker

    def policy(self, batch_size: int) -> Policy:
        """A policy for that many rows.

        Raises:
            ValueError: if there is none of that name.
        """
        if self._policy in ("explicit", "greedy"):
            return Explicit(self._table, greedy=self._policy == "greedy")
        if self._policy == "soft":
            return Soft(self._table)
        if self._policy == "swi":
            end = self._tokenizer.convert_tokens_to_ids(self._end_marker)
            return Swi(self._table, end, batch_size)
        raise ValueError(f"{self._policy!r} is none of explicit, greedy, soft and swi")

    @torch.inference_mode()
    def run(
        self, prompt: str, lengths: Sequence[int], batch_size: int, refills: bool = False
    ) -> list[float]:
        """Seconds to the end of each request, each with its own output length, in the order of ends.

        They count from the submission of all; a request ends with its own last token.
        """
        started = time.perf_counter()
        ids = self._tokenizer(prompt, return_tensors="pt").input_ids
        ends = []
        for group in [lengths] if refills else _split(lengths, batch_size):
            for num in self._run_group(ids, group, min(batch_size, len(group))):
                ends += [time.perf_counter() - started] * num
        return ends

    def _run_group(self, ids: torch.Tensor, lengths: Sequence[int], size: int) -> Iterator[int]:
        """Yields, after every step, how many requests have ended with it."""
        rows, policy = _Rows(self._model, ids, size), self.policy(size)
        # A prompt's logits are a request's first token; every step gives one more.
        left, waiting = [n - 1 for n in lengths[:size]], list(lengths[size:])
        yield left.count(0)
        while True:
            for row in range(size):
                while left[row] <= 0 and waiting:
                    rows.refill(row)
                    policy.start(row)
                    left[row] = waiting.pop(0) - 1
                    yield int(left[row] == 0)
            if max(left) <= 0:
                return
            rows.step(policy.inputs(rows.logits))
            left = [n - 1 for n in left]
            yield left.count(0)


def _split(lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for i in range(0, len(lengths), size):
        yield lengths[i : i + size]


def main() -> None:
    """Answer jobs until the input ends; the options name the policy, and whether rows are refilled."""
    options = json.loads(sys.argv[1])
    loop = Loop(options["model"], options["dtype"], options["policy"])

    def run(prompts: list[str], sampling: list[dict[str, Any]]) -> dict[str, Any]:
        (prompt,), lengths = set(prompts), [each["max_tokens"] for each in sampling]
        ends = loop.run(prompt, lengths, options["max_num_seqs"], options["refills"])
        return {"seconds": ends[-1], "latencies": ends}

    answer_jobs(run)


if __name__ == "__main__":
    main()
