"""Why an engine serves `explicit` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .additional import ours
from .markers import marker_ids

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def refusal_of(config: VllmConfig) -> str | None:
    """The reason, with the remedy; None where soft modes are served."""
    if marker_ids(config) is None:
        return (
            "needs a model with reasoning markers; start the server with --reasoning-parser, or "
            "with --reasoning-start and --reasoning-end"
        )
    if not config.use_v2_model_runner:
        return (
            "needs vLLM's Model Runner V2; "
            "unset VLLM_USE_V2_MODEL_RUNNER=0 and drop V1-only options"
        )
    if config.parallel_config.pipeline_parallel_size > 1:
        return "is not served with pipeline parallelism; use --tensor-parallel-size instead"
    if config.speculative_config is not None:
        return "is not served with speculative decoding; drop --speculative-config"
    parallel = config.parallel_config
    if max(parallel.decode_context_parallel_size, parallel.prefill_context_parallel_size) > 1:
        return "is not served with context parallelism; use --tensor-parallel-size instead"
    if config.scheduler_config.policy == "priority":
        # It may preempt ever more requests, and each keeps its row of the ledger.
        return "is not served with priority scheduling; drop --scheduling-policy priority"
    if config.kv_transfer_config is not None:
        # Some connectors find blocks by token ids, which soft inputs do not have.
        return "is not served with KV cache transfer; drop --kv-transfer-config"
    if config.lora_config is not None:
        return "is not served with LoRA adapters, which may change embeddings; drop --enable-lora"
    if not ours(config.additional_config).get("soft_modes", True):
        return "was turned off by additional_config; drop sottovoce.soft_modes from it"
    if config.parallel_config.enable_batch_sharded_sampling:
        return "is not served with batch-sharded sampling; drop --enable-batch-sharded-sampling"
    if config.watermark_config is not None:
        return "is not served with watermarking; drop --watermark-config"
    return None
