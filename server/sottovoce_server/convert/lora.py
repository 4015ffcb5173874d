"""Adapters of LoRA, as PEFT names them, merged into the weights that they change."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from .parts import ConvertError, Tensors

_ADAPTER = re.compile(r"(.+)\.lora_([AB])\.default\.weight")


def merged(
    tensors: Tensors, is_transposed: Callable[[str], bool], alpha: float, dtype: torch.dtype
) -> Tensors:
    """W + alpha / r B A, added in float32 and then cast, for A [r, in] and B [out, r] (arXiv 2106.09685).

    `is_transposed` says of a module whether its weight is [in, out], as GPT-2's are.

    Raises:
        ConvertError: naming an adapter without its other half, or that does not fit its weight.
    """
    plain, adapters = Tensors(), dict[str, Tensors]()
    for name, tensor in tensors.items():
        if match := _ADAPTER.fullmatch(name):
            adapters.setdefault(match[1], {})[match[2]] = tensor
        else:
            plain[name.replace(".base_layer.", ".")] = tensor
    for module, halves in adapters.items():
        if missing := {"A", "B"} - halves.keys():
            raise ConvertError(f"{module} lacks its lora_{missing.pop()}")
        a, b, weight = halves["A"], halves["B"], plain.get(f"{module}.weight")
        change = (len(b), a.shape[1])
        change = change[::-1] if is_transposed(module) else change
        if weight is None or weight.shape != change or len(a) != b.shape[1]:
            shapes = {"lora_A": tuple(a.shape), "lora_B": tuple(b.shape)}
            weight_shape = None if weight is None else tuple(weight.shape)
            raise ConvertError(f"{module}: {shapes} do not fit its weight, {weight_shape}")
        product = b.float() @ a.float() * (alpha / len(a))
        if is_transposed(module):
            product = product.T
        plain[f"{module}.weight"] = (weight.float() + product).to(dtype)
    return plain
