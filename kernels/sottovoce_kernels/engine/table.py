"""Which CPU function stands in for which of vLLM's Triton kernels, by qualified name.

Everything that decoding text on one device launches is here. Without a CPU version, below
`vllm.v1.worker.gpu`, are only kernels behind options of the engine:

| kernels in | launched with |
|---|---|
| `spec_decode` | `--speculative-config` |
| `sample.watermark` | a watermark configuration |
| `sample.batch_shard` | batch-sharded sampling over several devices |
| `cp_utils` | decode context parallelism |
| `model_states.prompt_embeds` | `--enable-prompt-embeds` |
| `model_states.recoverssm` | hybrid Mamba models that recover states at block boundaries |
"""

from collections.abc import Callable
from typing import Any

from sottovoce_kernels.engine import (
    blocks,
    gumbel,
    inputs,
    logits,
    logprobs,
    penalties,
    progress,
    sampling,
    thinking,
)

_GPU = "vllm.v1.worker.gpu"

CPU_KERNELS: dict[str, Callable[..., Any]] = {
    f"{_GPU}.block_table._compute_slot_mappings_kernel": blocks.compute_slot_mappings,
    f"{_GPU}.block_table._gather_block_tables_kernel": blocks.gather_block_tables,
    f"{_GPU}.buffer_utils._apply_write_kernel": blocks.apply_write,
    f"{_GPU}.input_batch._combine_sampled_and_draft_tokens_kernel": (
        inputs.combine_sampled_and_draft_tokens
    ),
    f"{_GPU}.input_batch._expand_idx_mapping_kernel": inputs.expand_idx_mapping,
    f"{_GPU}.input_batch._get_num_sampled_and_rejected_kernel": (
        progress.get_num_sampled_and_rejected
    ),
    f"{_GPU}.input_batch._post_update_kernel": progress.post_update,
    f"{_GPU}.input_batch._post_update_num_computed_tokens_kernel": (
        progress.post_update_num_computed_tokens
    ),
    f"{_GPU}.input_batch._prepare_pos_seq_lens_kernel": inputs.prepare_pos_seq_lens,
    f"{_GPU}.input_batch._prepare_prefill_inputs_kernel": inputs.prepare_prefill_inputs,
    f"{_GPU}.metrics.logits._num_nans_kernel": logits.num_nans,
    f"{_GPU}.mm.rope._prepare_rope_positions_kernel": inputs.prepare_rope_positions,
    f"{_GPU}.model_states.mamba_hybrid._fill_num_accepted_kernel": progress.fill_num_accepted,
    f"{_GPU}.model_states.mamba_hybrid._scatter_num_accepted_kernel": progress.scatter_num_accepted,
    f"{_GPU}.sample.bad_words._bad_words_kernel": logits.bad_words,
    f"{_GPU}.sample.gumbel._gumbel_sample_kernel": gumbel.gumbel_sample,
    f"{_GPU}.sample.gumbel._temperature_kernel": sampling.temperature,
    f"{_GPU}.sample.logit_bias._bias_kernel": logits.bias,
    f"{_GPU}.sample.logprob._fill_logprob_token_ids_kernel": logprobs.fill_logprob_token_ids,
    f"{_GPU}.sample.logprob._ranks_kernel": logprobs.ranks,
    f"{_GPU}.sample.logprob._topk_log_softmax_kernel": logprobs.topk_log_softmax,
    f"{_GPU}.sample.min_p._min_p_kernel": sampling.min_p,
    f"{_GPU}.sample.output._compact_sampling_mask_kernel": logprobs.compact_sampling_mask,
    f"{_GPU}.sample.penalties._bincount_kernel": penalties.bincount,
    f"{_GPU}.sample.penalties._penalties_kernel": penalties.penalties,
    f"{_GPU}.sample.prompt_logprob._prompt_logprobs_token_ids_kernel": (
        logprobs.prompt_logprobs_token_ids
    ),
    f"{_GPU}.sample.thinking_budget._thinking_budget_kernel": thinking.thinking_budget,
    f"{_GPU}.sample.thinking_budget._update_committed_marker_cache_kernel": (
        thinking.update_committed_marker_cache
    ),
    f"{_GPU}.sample.trace_replay._trace_replay_kernel": progress.trace_replay,
    f"{_GPU}.structured_outputs._apply_grammar_bitmask_kernel": logits.apply_grammar_bitmask,
    "vllm.v1.worker.utils._zero_kv_blocks_kernel": blocks.zero_kv_blocks,
}
