"""What the checks inside vLLM share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sottovoce_router.admission import admit
from sottovoce_router.capabilities import Capabilities

ALL_MODES = Capabilities(
    refusal=None, ledger_entries=10_000, ledger_positions=1_000, max_model_len=1_000
)


def admitted_sampling(logprobs: int | None = None, **extra: Any) -> Any:
    """Sampling parameters that have passed admission."""
    from vllm import SamplingParams

    sampling = SamplingParams(logprobs=logprobs, max_tokens=10, extra_args=extra)
    request = SimpleNamespace(sampling_params=sampling, prompt_token_ids=[1], prompt_embeds=None)
    admit(request, ALL_MODES)
    return sampling
