"""The host's end of the pipe, `python -m e2e.host`: builds engines, runs requests and reports."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from e2e.engine import ON_GPU, Batch, Choice, Prompt, Result
from e2e.steps import Step


class Server:
    """The host's end: holds the engine and obeys."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._num_requests = 0

    def start(self, options: dict[str, Any]) -> None:
        from vllm import LLM
        from vllm.config.reasoning import ReasoningConfig

        self._stop()
        defaults = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 1024,
            "max_num_seqs": 16,
            "block_size": 32,
            "kv_cache_memory_bytes": 64 << 20,
            "reasoning_parser": "deepseek_r1",
            "disable_log_stats": False,
            # Random models like blanks so much that they write nothing else.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        options = {**defaults, **(_gpu_options() if ON_GPU else {}), **options}
        if "reasoning_config" in options:
            options["reasoning_config"] = ReasoningConfig(**options["reasoning_config"])
        self._llm = LLM(**options)

    def _stop(self) -> None:
        if self._llm is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        cleanup_dist_env_and_memory()

    def num_compiled(self) -> int:
        from vllm.compilation.counter import compilation_counter

        return compilation_counter.num_models_seen

    def forget_prefixes(self) -> bool:
        return bool(self._llm.reset_prefix_cache())

    def run(self, prompts: list[Prompt]) -> Batch:
        engine, before = self._llm.llm_engine, self._counters()
        waiting = sorted(enumerate(prompts), key=lambda pair: pair[1].arrives)
        outputs: dict[str, list[Any]] = {}  # by request id, in the order of `waiting`
        order = [number for number, _ in waiting]
        step = 0
        while waiting or engine.has_unfinished_requests():
            while waiting and waiting[0][1].arrives <= step:
                outputs[self._add(waiting.pop(0)[1])] = []
            if engine.has_unfinished_requests():
                for output in engine.step():
                    outputs[output.request_id].append(output)
            step += 1
        results = dict(zip(order, map(_result, outputs.values()), strict=True))
        after = self._counters()
        counters = {name: after[name] - before.get(name, 0.0) for name in after}
        return Batch(tuple(results[i] for i in range(len(prompts))), counters)

    def _add(self, prompt: Prompt) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = dict(prompt.sampling)
        if "json" in sampling:
            sampling["structured_outputs"] = StructuredOutputsParams(json=sampling.pop("json"))
        kind = RequestOutputKind.DELTA if prompt.streams else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(**sampling, output_kind=kind)
        request_id = str(self._num_requests)
        self._num_requests += 1
        inputs = {"prompt_token_ids": list(prompt.token_ids)}
        self._llm.llm_engine.add_request(request_id, inputs, params)
        return request_id

    def _counters(self) -> dict[str, float]:
        from vllm.v1.metrics.reader import Counter

        return {m.name: float(m.value) for m in self._llm.get_metrics() if isinstance(m, Counter)}


def _result(outputs: list[Any]) -> Result:
    """One request's outputs as one: a single one, or the chunks of a stream."""
    chunks: dict[int, list[Any]] = {}
    for output in outputs:
        for choice in output.outputs:
            chunks.setdefault(choice.index, []).append(choice)
    choices = tuple(_choice(chunks[index]) for index in sorted(chunks))
    return Result(choices, outputs[-1].num_cached_tokens or 0)


def _choice(chunks: list[Any]) -> Choice:
    tokens = tuple(token for chunk in chunks for token in chunk.token_ids)
    record = [step for chunk in chunks for step in getattr(chunk, "routing", None) or []]
    steps = [
        Step(
            s.token_id,
            s.route,
            s.p_max,
            s.entropy,
            dict(s.alternatives),
            {},
            s.takes_slot,
            s.num_skipped,
            s.text,
        )
        for s in record
    ]
    assert [step.token for step in steps] in ([], list(tokens))
    rows = [row for chunk in chunks for row in chunk.logprobs or []]
    logprobs = [{i: entry.logprob for i, entry in row.items()} for row in rows]
    text = "".join(chunk.text for chunk in chunks)
    return Choice(tokens, text, chunks[-1].finish_reason, steps, logprobs)


def _gpu_options() -> dict[str, Any]:
    """Many engines share a GPU; E2E_GRAPHS is `full` for graphs alone, else anything for compiled ones."""
    graphs = os.environ.get("E2E_GRAPHS", "")
    found: dict[str, Any] = {"enforce_eager": graphs == "", "attention_backend": "TRITON_ATTN"}
    if graphs == "full":
        found["compilation_config"] = {"mode": 0, "cudagraph_mode": "FULL"}
    return {**found, "gpu_memory_utilization": 0.03}  # the key-value cache has a size of its own


def _make_stock_vllm_run_here() -> None:
    """Give Model Runner V2 the Triton that it misses on a CPU; nothing else is changed."""
    import triton
    import triton.language
    import vllm.config.vllm
    import vllm.triton_utils
    import vllm.triton_utils.importing
    from triton.language.extra import libdevice

    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    vllm.triton_utils.triton = triton
    vllm.triton_utils.tl = triton.language
    vllm.triton_utils.tldevice = libdevice
    for module in (vllm.triton_utils, vllm.triton_utils.importing, vllm.config.vllm):
        module.HAS_TRITON = True
    import vllm.v1.sample.ops.topk_topp_sampler as filters

    filters.HAS_TRITON = False  # its kernel does not run interpreted; this is its own CPU branch


def _mend_interpreter() -> None:
    """Let masks be integers, as compiled Triton does; vLLM's grammar kernel has one."""
    from triton.runtime.interpreter import InterpreterBuilder

    store = InterpreterBuilder.create_masked_store

    def create_masked_store(self: Any, pointers: Any, value: Any, mask: Any, *more: Any) -> Any:
        mask.data = mask.data.astype(bool)
        return store(self, pointers, value, mask, *more)

    InterpreterBuilder.create_masked_store = create_masked_store


def _spare_imports() -> None:
    """Leave what is imported out of the dozen garbage collections of an engine's start and end.

    vLLM would freeze the engine as well, and at its end thaw all.
    """
    import vllm.entrypoints.llm  # noqa: F401

    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None


def _serve(pipe: Connection, is_stock: bool) -> None:
    if "TRITON_INTERPRET" in os.environ:
        _mend_interpreter()
    if is_stock and not ON_GPU:
        _make_stock_vllm_run_here()
    _spare_imports()
    server = Server()
    while True:
        try:
            command, arguments = pipe.recv()
        except EOFError:
            server._stop()
            return
        try:
            pipe.send((True, getattr(server, command)(*arguments)))
        except Exception:  # the test process reports it
            pipe.send((False, traceback.format_exc()))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), sys.argv[2] == "1")
