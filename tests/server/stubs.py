"""An engine's configuration and outputs, as far as the server reads them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from sottovoce_router import Step
from sottovoce_router.markers import MarkerIds

START, END = 3, 4
LEDGER_BYTES = 1000  # of a request
MARKERS = MarkerIds((START,), (END,), (END,))
REASONING = SimpleNamespace(
    enabled=True,
    reasoning_start_token_ids=[START],
    reasoning_end_token_ids=[END],
    natural_reasoning_end_token_ids=[END],
)


OUTPUTS = SimpleNamespace(reasoning_parser="deepseek_r1", enable_in_reasoning=False)


def engine_config(**changes: Any) -> Any:
    """A configuration that serves every mode; dotted names as `parallel__tensor_parallel_size`."""
    parallel = SimpleNamespace(
        pipeline_parallel_size=1,
        tensor_parallel_size=1,
        data_parallel_size=1,
        decode_context_parallel_size=1,
        prefill_context_parallel_size=1,
        enable_batch_sharded_sampling=False,
    )
    model = SimpleNamespace(
        max_model_len=512,
        dtype=torch.float32,
        get_inputs_embeds_size=lambda: 8,
        get_diff_sampling_param=dict,
        get_num_layers=lambda parallel_config: 2,
        architecture="LlamaForCausalLM",
        quantization=None,
        model="no-such-folder",
    )
    fields = {
        "reasoning_config": REASONING,
        "use_v2_model_runner": True,
        "speculative_config": None,
        "lora_config": None,
        "kv_transfer_config": None,
        "watermark_config": None,
        "additional_config": {},
        "structured_outputs_config": OUTPUTS,
        "model_config": model,
        "parallel_config": parallel,
        "scheduler_config": SimpleNamespace(max_num_seqs=8, policy="fcfs"),
    }
    for name, value in changes.items():
        owner, _, key = name.rpartition("__")
        if owner:
            setattr(fields[f"{owner}_config"], key, value)
        else:
            fields[name] = value
    return SimpleNamespace(**fields)


def step(token_id: int, route: str | None = "soft", **fields: Any) -> Step:
    """A recorded step."""
    return Step(token_id, route, **{"p_max": 0.5, "entropy": 1.0, **fields})


def completion(
    index: int,
    token_ids: Sequence[int],
    routes: Sequence[str | None] | None = None,
    finish_reason: str | None = None,
) -> Any:
    """A CompletionOutput; recorded where routes are given."""
    output = SimpleNamespace(index=index, token_ids=list(token_ids), finish_reason=finish_reason)
    if routes is not None:
        output.routing = [step(t, r) for t, r in zip(token_ids, routes, strict=True)]
        output.ledger_bytes = LEDGER_BYTES
    return output


def output(request_id: str, *completions: Any, prompt: Sequence[int] = (9, START)) -> Any:
    """A RequestOutput."""
    return SimpleNamespace(
        request_id=request_id, outputs=list(completions), prompt_token_ids=list(prompt)
    )
