"""Requests as admission gets them, and engines that admit them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from sottovoce_router import Capabilities
from sottovoce_router.admission import admit
from sottovoce_router.params import STAMP

SOFT = Capabilities(refusal=None, ledger_entries=1000, ledger_positions=100, max_model_len=200)
PLAIN = dataclasses.replace(SOFT, refusal="needs markers; set some")


def engine(**changes: Any) -> Any:
    """A configuration that serves every mode, but for the changes."""
    reasoning = SimpleNamespace(
        enabled=True,
        reasoning_start_token_ids=[1],
        reasoning_end_token_ids=[2, 3],
        natural_reasoning_end_token_ids=[3],
    )
    parallel = {
        "pipeline_parallel_size": 1,
        **dict.fromkeys(["decode_context_parallel_size", "prefill_context_parallel_size"], 1),
        "enable_batch_sharded_sampling": False,
        "data_parallel_size": 1,
    }
    config: dict[str, Any] = {
        "reasoning_config": reasoning,
        "use_v2_model_runner": True,
        "parallel_config": parallel,
        "speculative_config": None,
        "lora_config": None,
        "kv_transfer_config": None,
        "watermark_config": None,
        "additional_config": {},
        "structured_outputs_config": SimpleNamespace(
            reasoning_parser="deepseek_r1", enable_in_reasoning=False
        ),
        "model_config": SimpleNamespace(
            max_model_len=4096,
            dtype=torch.float16,
            get_inputs_embeds_size=lambda: 8,
            architecture="LlamaForCausalLM",
            quantization=None,
            model="none",
        ),
        "scheduler_config": SimpleNamespace(max_num_seqs=8, policy=changes.pop("policy", "fcfs")),
    }
    config.update({key: value for key, value in changes.items() if key not in parallel})
    parallel.update({key: value for key, value in changes.items() if key in parallel})
    config["parallel_config"] = SimpleNamespace(**parallel)
    return SimpleNamespace(**config)


@dataclass
class Sampling:
    """The part of vLLM's SamplingParams that admission touches."""

    extra_args: dict[str, Any] | None = None
    num_logprobs: int | None = None
    max_tokens: int | None = 50
    all_stop_token_ids: set[int] = field(default_factory=set)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    repetition_detection: Any = None
    structured_outputs: Any = None
    temperature: float = 0.6
    thinking_token_budget: int | None = None
    trace_decode_token_ids: Any = None
    seed: int | None = None
    n: int = 1


def request(sampling: Any, embeds: Any = None, last: int = 7) -> Any:
    """A request with a prompt of 20 tokens."""
    return SimpleNamespace(
        sampling_params=sampling, prompt_token_ids=[7] * 19 + [last], prompt_embeds=embeds
    )


def admitted(
    extra: dict[str, Any] | None, capabilities: Capabilities = SOFT, **sampling: Any
) -> Sampling:
    params = Sampling(extra, **sampling)
    admit(request(params), capabilities)
    return params


def stamp_of(sampling: Sampling) -> dict[str, Any]:
    assert sampling.extra_args is not None
    stamp: dict[str, Any] = sampling.extra_args[STAMP]
    return stamp
