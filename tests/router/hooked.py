"""Every function of vLLM's that the plugin wraps on any device, by module."""

from __future__ import annotations

HOOKED: dict[str, list[str]] = {
    "vllm.compilation.caching": ["aot_compile_hash_factors"],
    "vllm.v1.worker.gpu.model_states": ["resolve_model_state_cls"],
    "vllm.v1.worker.gpu.model_runner": ["GPUModelRunner.finish_requests", "GPUModelRunner.sample"],
    "vllm.v1.core.kv_cache_utils": ["generate_block_hash_extra_keys"],
    "vllm.v1.engine.input_processor": ["InputProcessor.process_inputs"],
    "vllm.v1.serial_utils": ["MsgpackDecoder._decode_ndarray"],
    "vllm.v1.engine.logprobs": [
        "LogprobsProcessor.from_new_request",
        "LogprobsProcessor.update_from_output",
    ],
    "vllm.v1.engine.output_processor": ["RequestState._new_completion_output"],
    "vllm.outputs": ["RequestOutput.add"],
    "vllm.v1.engine.async_llm": ["AsyncLLM.generate"],
    "vllm.engine.arg_utils": ["EngineArgs.create_model_config"],
    "vllm.kernels": [],  # adds to vLLM's operators and wraps nothing
    "vllm.model_executor.model_loader.base_loader": ["initialize_model"],
    "vllm.v1.core.sched.scheduler": ["Scheduler._preempt_request"],
    "vllm.v1.engine.detokenizer": [
        "IncrementalDetokenizer.from_new_request",
        "FastIncrementalDetokenizer.decode_next",
        "SlowIncrementalDetokenizer.decode_next",
    ],
}
