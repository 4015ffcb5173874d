"""What latents say in words: the step decoder that SIM-CoT (arXiv 2509.20317) trains beside a model.

It is a causal language model of a few layers, which reads a latent as its first input. Its maths is
that of `sottovoce_training.steps`, which trains it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import PluginError
from .manifest import DECODER, FOLDER, Manifest

NUM_TOKENS = 32  # of a text, at most
_OUTPUT = "lm_head.weight"


def decoder_config(config: Any, num_layers: int) -> Any:
    """The configuration of a model's step decoder."""
    found = copy.deepcopy(config)
    found.num_hidden_layers = num_layers
    return found


class StepReader:
    """Reads latents, of which every stride-th was trained to be read."""

    def __init__(self, model: Any, ends: torch.Tensor, stride: int) -> None:
        """Take over a causal language model of transformers.

        Args:
            ends: the tokens that end a text, int64 [e].
        """
        self._model, self._ends, self.stride = model, ends, stride

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        """All that it holds, by name."""
        return [("ends", self._ends), *self._model.state_dict().items()]

    def write(self, vectors: torch.Tensor) -> torch.Tensor:
        """The text of each latent [n, H], greedily, int64 [n, NUM_TOKENS]: -1 from its end on.

        It always takes NUM_TOKENS passes: whether all texts have ended only the device knows.
        """
        from transformers import DynamicCache

        cache, embed = DynamicCache(), self._model.get_input_embeddings()
        has_ended = torch.zeros(len(vectors), 1, dtype=torch.bool, device=vectors.device)
        x, texts = vectors.to(self._model.dtype).unsqueeze(1), list[torch.Tensor]()
        for _ in range(NUM_TOKENS):
            found = self._model(inputs_embeds=x, past_key_values=cache, use_cache=True)
            token = found.logits[:, -1:].argmax(-1)
            has_ended = has_ended | (token.unsqueeze(-1) == self._ends).any(-1)
            texts.append(torch.where(has_ended, -1, token))
            x = embed(token)
        return torch.cat(texts, dim=1)


def load_reader(
    model: str, manifest: Manifest, dtype: torch.dtype, device: torch.device
) -> StepReader | None:
    """The step decoder in a model's directory; None where its manifest has none.

    Raises:
        PluginError: where it is not the model's.
    """
    if manifest.decoder_layers is None:
        return None
    from transformers import AutoConfig, AutoModelForCausalLM

    path = Path(model) / FOLDER / DECODER
    config = decoder_config(
        AutoConfig.from_pretrained(model, local_files_only=True), manifest.decoder_layers
    )
    try:
        tensors = load_file(path)
        config.tie_word_embeddings = _OUTPUT not in tensors
        decoder = AutoModelForCausalLM.from_config(config, dtype=dtype)
        missing, left = decoder.load_state_dict(tensors, strict=False)
    except (OSError, RuntimeError) as error:
        raise PluginError(f"{path}: {error}; convert the model again") from error
    if unfit := [*(name for name in missing if name != _OUTPUT), *left]:
        raise PluginError(f"{path}: {unfit[0]} is missing or no tensor of it; convert again")
    ends = config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return StepReader(
        decoder.to(device).requires_grad_(False).eval(),
        torch.tensor(ends, dtype=torch.int64, device=device),
        manifest.stride or 1,
    )
