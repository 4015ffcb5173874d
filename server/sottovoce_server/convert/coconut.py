"""Coconut and SIM-CoT's Coconut: a state dict that was saved as it is.

Names from facebookresearch/coconut (coconut.py, run.py) and InternLM/SIM-CoT: the model under
`base_causallm.`, and its embedding once more. It has three rows after the base's.
"""

from __future__ import annotations

import torch

from .parts import Checkpoint, ConvertError, Parts, Thinking, dropped, split

STEPS = 6  # args/gsm_coconut.yaml: 2 latents for each of 3 steps
SIM_COT_STEPS = 10  # for each of 5
_DECODER = "expainable_llm."  # as they spell it
_COPY = "embedding."
_DROPPED = {
    _DECODER: "SIM-CoT's auxiliary decoder, which only training needs",
    _COPY: "the embedding once more",
}


def is_coconut(names: set[str]) -> bool:
    """Whether these are its names."""
    return any(name.startswith("base_causallm.") for name in names)


def read_coconut(checkpoint: Checkpoint) -> Parts:
    """The prompt is the question, a line break and the marker (dataset.py)."""
    found = split(checkpoint.tensors, ("base_causallm.", _DECODER, _COPY))
    model = found["base_causallm."]
    for name, copy in found[_COPY].items():
        if not any(copy.shape == t.shape and torch.equal(copy, t) for t in model.values()):
            raise ConvertError(f"{_COPY}{name} is not the embedding of base_causallm, once more")
    steps = SIM_COT_STEPS if found[_DECODER] else STEPS
    return Parts(
        model=model,
        prefix="base_causallm.",
        head={},
        head_names={},
        thinking=Thinking("coconut", steps, "<|start-latent|>", "<|end-latent|>"),
        added=("<|start-latent|>", "<|end-latent|>", "<|latent|>"),
        before_start="\n",
        dropped=dropped(found, _DROPPED),
    )
