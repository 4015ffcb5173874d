"""llama.cpp on its own CPU kernels, in an environment of its own, with the protocol of `engine.py`.

Its server has no wheel; the package `cyllama` has its library. What is here does what the server's
loop does: as many sequences as `max_num_seqs` in one batch, each refilled when it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from cyllama.llama import llama_cpp as llama


def _sampler(sampling: dict[str, Any], seed: int) -> Any:
    chain = llama.LlamaSampler(llama.LlamaSamplerChainParams())
    if not sampling["temperature"]:
        chain.add_greedy()
        return chain
    chain.add_top_k(sampling["top_k"])
    chain.add_top_p(sampling["top_p"], 1)
    chain.add_min_p(sampling["min_p"], 1)
    chain.add_temp(sampling["temperature"])
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

    def run(self, prompt: str, lengths: Sequence[int], sampling: dict[str, Any]) -> int:
        """Generate so many tokens for each request; returns how many there were."""
        ids = self._model.get_vocab().tokenize(prompt, add_special=False, parse_special=True)
        samplers = [_sampler(sampling, seed) for seed in range(self._num_seqs)]
        waiting, left, ends = list(lengths), [0] * self._num_seqs, [0] * self._num_seqs
        tokens: dict[int, int] = {}  # what each running sequence is fed next
        num_made = 0
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
                num_made, left[seq] = num_made + 1, left[seq] - 1
                if left[seq] > 0:
                    tokens[seq] = token
        return num_made


def main() -> None:
    """Answer jobs until the input ends."""
    options = json.loads(sys.argv[1])
    model = Llama(options["model"], options["max_num_seqs"], options["num_cached_tokens"])
    print("@1", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        (prompt,), sampling = set(job["prompts"]), job["sampling"]
        lengths = [each["max_tokens"] for each in sampling]
        started = time.perf_counter()
        num_made = model.run(prompt, lengths, sampling[0])
        seconds = time.perf_counter() - started
        if num_made != sum(lengths):
            raise RuntimeError(f"{num_made} tokens of {sum(lengths)}")
        print("@" + json.dumps([seconds, 0, []]), flush=True)


if __name__ == "__main__":
    main()
