"""A checkpoint's tensors as the weights of a transformers model: merged, tied, checked and cast."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from sottovoce_router.latent.reader import decoder_config

from .heads import head_shapes
from .lora import merged
from .parts import ConvertError, Parts, Tensors, check

_LAYER = re.compile(r"model\.layers\.(\d+)\..+")  # of a run's decoder, a Llama as its reasoner is
# Older versions of transformers saved what they compute.
_COMPUTED = re.compile(r".*(\.attn\.bias|\.attn\.masked_bias|\.rotary_emb\.inv_freq)")


def fit_model(parts: Parts, config: Any, alpha: float) -> Tensors:
    """The model's weights in the dtype of `config`, which learns its rows and whether they are tied.

    Raises:
        ConvertError: naming a tensor that is missing, left over, or of another shape.
    """
    from transformers.pytorch_utils import Conv1D

    config.dtype = config.dtype or torch.float32
    skeleton = _skeleton(config)
    modules = dict(skeleton.named_modules())
    tensors = merged(
        parts.model, lambda name: isinstance(modules.get(name), Conv1D), alpha, config.dtype
    )
    rows_in, rows_out = (
        next(f"{name}.weight" for name, module in modules.items() if module is wanted)
        for wanted in (skeleton.get_input_embeddings(), skeleton.get_output_embeddings())
    )
    _tie(tensors, rows_in, rows_out, config)
    if rows_in in tensors:
        _resize(config, len(tensors[rows_in]), len(parts.added))
    skeleton = _skeleton(config)
    expected = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    if config.tie_word_embeddings:
        del expected[rows_out]
    tensors = {n: t for n, t in tensors.items() if n in expected or not _COMPUTED.fullmatch(n)}
    check(tensors, expected, parts.prefix)
    config.architectures = [type(skeleton).__name__]
    return {name: tensor.to(config.dtype).contiguous() for name, tensor in tensors.items()}


def fit_head(parts: Parts, width: int) -> Tensors:
    """The head's tensors under the names of head.safetensors, in float32.

    Raises:
        ConvertError: as for the model.
    """
    shapes = head_shapes(parts.thinking.method, width)
    check(parts.head, {theirs: shapes[ours] for theirs, ours in parts.head_names.items()})
    return {parts.head_names[name]: t.float().contiguous() for name, t in parts.head.items()}


def fit_decoder(parts: Parts, config: Any) -> tuple[Tensors, int | None]:
    """The step decoder's tensors in the dtype of the fitted `config`, and how many layers it has.

    Raises:
        ConvertError: as for the model.
    """
    if not parts.decoder:
        return {}, None
    layers = [int(match[1]) for name in parts.decoder if (match := _LAYER.fullmatch(name))]
    num_layers = max(layers, default=0) + 1
    alone = replace(parts, model=parts.decoder, prefix=parts.decoder_prefix, added=())
    return fit_model(alone, decoder_config(config, num_layers), 1.0), num_layers


def _skeleton(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise ConvertError(
            f"the base, a {config.model_type}, is no causal language model; give another --base"
        ) from error


def _tie(tensors: Tensors, rows_in: str, rows_out: str, config: Any) -> None:
    """Leave one of two equal matrices, and say in `config` whether there is one."""
    if config.tie_word_embeddings and rows_in not in tensors and rows_out in tensors:
        tensors[rows_in] = tensors[rows_out]  # safetensors keeps one name of two, maybe this one
    if rows_in in tensors and rows_out in tensors:
        config.tie_word_embeddings = torch.equal(tensors[rows_in], tensors[rows_out])
    if config.tie_word_embeddings:
        tensors.pop(rows_out, None)


def _resize(config: Any, rows: int, added: int) -> None:
    if config.vocab_size not in (rows - added, rows):
        raise ConvertError(
            f"the checkpoint's embedding has {rows} rows, {added} of them added, and the base's "
            f"{config.vocab_size}; give --base the model that it was trained from"
        )
    config.vocab_size = rows
