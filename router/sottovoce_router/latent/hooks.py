"""The private names of vLLM that latent steps hook into, beside those of `..seam`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..seam import wrap


def hook_states(module: ModuleType) -> None:
    """`vllm.v1.worker.gpu.model_runner`: show what the model returned to the model state."""

    def make(original: Any) -> Any:
        def sample(self: Any, hidden_states: Any, input_batch: Any, *args: Any) -> Any:
            think = getattr(self.model_state, "think", None)
            if think is not None:
                think(hidden_states, input_batch.logits_indices)
            return original(self, hidden_states, input_batch, *args)

        return sample

    wrap(module.GPUModelRunner, "sample", make)


def hook_text(module: ModuleType) -> None:
    """`vllm.v1.engine.detokenizer`: placeholders have no text, special tokens shown or not."""

    def make_new(original: Any) -> Any:
        def from_new_request(cls: Any, tokenizer: Any, request: Any) -> Any:
            from ..admission import latent_of

            found = original(cls, tokenizer, request)
            latent = latent_of(request.sampling_params)
            found.placeholder = latent["placeholder"] if latent["steps"] else None
            return found

        return from_new_request

    def make_next(original: Any) -> Any:
        def decode_next(self: Any, next_token_id: int) -> str:
            if next_token_id == self.placeholder:
                return ""
            self.placeholder = None  # the end marker comes after the last of them
            text: str = original(self, next_token_id)
            return text

        return decode_next

    wrap(module.IncrementalDetokenizer, "from_new_request", make_new)
    for kind in (module.FastIncrementalDetokenizer, module.SlowIncrementalDetokenizer):
        wrap(kind, "decode_next", make_next)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "vllm.v1.worker.gpu.model_runner": hook_states,
    "vllm.v1.engine.detokenizer": hook_text,
}
