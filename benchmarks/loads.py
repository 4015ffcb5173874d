"""What the engines are asked in every benchmark of a step, and with what options they are started."""

from __future__ import annotations

from typing import Any

from sottovoce_server.cli import cpu_dtype

PROMPT = (
    "<|im_start|>user\nExplain step by step why the sky is blue.<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n"
)
GREEDY: dict[str, Any] = {"temperature": 0.0}
SAMPLING: dict[str, Any] = {"temperature": 0.6, "top_p": 0.95, "top_k": 30, "min_p": 0.001}
LATENT = {**SAMPLING, "extra_args": {"reasoning_mode": "latent", "routing": {"cold_stop": None}}}
ROUTED = {**SAMPLING, "extra_args": {"reasoning_mode": "routed", "routing": {"cold_stop": None}}}
TRACED = {**SAMPLING, "extra_args": {**LATENT["extra_args"], "include_reasoning_trace": 1}}


def budgeted(sampling: dict[str, Any]) -> dict[str, Any]:
    """The same with a thinking budget that is never reached, as keeps tokens for the answer."""
    return {**sampling, "thinking_token_budget": 1 << 20}


OPTIONS: dict[str, Any] = {
    "max_model_len": 2048, "max_num_seqs": 64,
    "kv_cache_memory_bytes": 3 << 30, "reasoning_parser": "deepseek_r1",
    "disable_log_stats": True, "enable_prefix_caching": True,
}  # fmt: skip


def serving_dtype() -> str:
    """What `sottovoce serve` computes a bfloat16 model in on this machine."""
    dtype = cpu_dtype("auto")
    return "bfloat16" if dtype == "auto" else dtype
