"""llama.cpp's library on its own CPU kernels, in an environment of its own: a program of `engine.py`.

By way of the package `cyllama`, without HTTP. It does what the loop of llama.cpp's server does: as
many sequences as `max_num_seqs` in one batch, each refilled when it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.engine import answer_jobs
from cyllama.llama import llama_cpp as llama


def _sampler(sampling: dict[str, Any], seed: int) -> Any:
    chain = llama.LlamaSampler(llama.LlamaSamplerChainParams())
    if not sampling["temperature"]:
        chain.add_greedy()
        return chain
    # vLLM's order: what the filters leave depends on the temperature.
    chain.add_temp(sampling["temperature"])
    chain.add_top_k(sampling["top_k"])
    chain.add_top_p(sampling["top_p"], 1)
    chain.add_min_p(sampling["min_p"], 1)
    chain.add_dist(seed)
    return chain


class Llama:
    """A model, and a context for several sequences that share its room."""

    def __init__(self, path: str, max_num_seqs: int, max_tokens: int) -> None:
        llama.disable_logging()
        llama.ggml_backend_load_all()
        self._model = llama.LlamaModel(path, llama.LlamaModelParams())
        params = llama.LlamaContextParams()
        params.n_ctx, params.n_seq_max, params.n_batch = max_tokens, max_num_seqs, 2048
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama.LlamaContext(self._model, params)
        self._batch = llama.LlamaBatch(n_tokens=2048, embd=0, n_seq_max=max_num_seqs)
        self._num_seqs = max_num_seqs

    def run(self, prompt: str, lengths: Sequence[int], sampling: dict[str, Any]) -> list[float]:
        """Generate so many tokens for each request; seconds to the end of each, in the order of ends."""
        started, ends_s = time.perf_counter(), list[float]()
        ids = self._model.get_vocab().tokenize(prompt, add_special=False, parse_special=True)
        samplers = [_sampler(sampling, seed) for seed in range(self._num_seqs)]
        waiting, left, ends = list(lengths), [0] * self._num_seqs, [0] * self._num_seqs
        tokens: dict[int, int] = {}  # what each running sequence is fed next
        while waiting or tokens:
            self._batch.clear()
            place: dict[int, int] = {}
            for seq, token in tokens.items():
                place[seq] = self._batch.n_tokens
                self._batch.add(token, ends[seq], [seq], True)
                ends[seq] += 1
            for seq in range(self._num_seqs):
                if seq not in tokens and waiting and self._batch.n_tokens + len(ids) <= 2048:
                    self._context.memory_seq_rm(seq, -1, -1)
                    for i, token in enumerate(ids):
                        self._batch.add(token, i, [seq], i == len(ids) - 1)
                    place[seq] = self._batch.n_tokens - 1
                    left[seq], ends[seq] = waiting.pop(0), len(ids)
            self._context.decode(self._batch)
            tokens = {}
            for seq, at in place.items():
                token = samplers[seq].sample(self._context, at)
                left[seq] -= 1
                if left[seq] > 0:
                    tokens[seq] = token
                else:
                    ends_s.append(time.perf_counter() - started)
        return ends_s


def main() -> None:
    """Answer jobs until the input ends."""
    options = json.loads(sys.argv[1])
    model = Llama(options["model"], options["max_num_seqs"], options["num_cached_tokens"])

    def run(prompts: list[str], sampling: list[dict[str, Any]]) -> dict[str, Any]:
        (prompt,), lengths = set(prompts), [each["max_tokens"] for each in sampling]
        ends = model.run(prompt, lengths, sampling[0])
        return {"seconds": ends[-1], "latencies": ends}

    answer_jobs(run)


if __name__ == "__main__":
    main()
