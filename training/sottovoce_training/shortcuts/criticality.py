"""How much a chain's steps matter, for the latent steps and the tokens that stand for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..chain import Chain
from ..steps import latent_of


def derived(chain: Chain) -> list[bool]:
    """A step is critical if it takes another step's result: the paper's rule, Atom of Thought's."""
    return [bool(step.uses) for step in chain.steps]


def linked(chain: Chain) -> list[bool]:
    """A step is critical if it takes another step's result, or another takes its."""
    used = {use for step in chain.steps for use in step.uses}
    return [bool(step.uses) or index in used for index, step in enumerate(chain.steps)]


RULES: dict[str, Callable[[Chain], list[bool]]] = {"derived": derived, "linked": linked}


def spread(critical: Sequence[bool], num_latents: int) -> list[float]:
    """The critical share, 0 to 1, of the steps that each latent stands for; 0 of none.

    Raises:
        ValueError: if the chain has no steps.
    """
    if not critical:
        raise ValueError("critical: a chain without steps has nothing to spread")
    found: list[list[bool]] = [[] for _ in range(num_latents)]
    for step, is_critical in enumerate(critical):
        found[latent_of(step, len(critical), num_latents)].append(is_critical)
    return [sum(steps) / max(1, len(steps)) for steps in found]


def exit_weights(criticality: torch.Tensor, num_layers: int) -> torch.Tensor:
    """e_{l,t} for criticality [...], float32 [L, ...]: how much layer l's state is to be final.

    They sum to 1 over the layers. A critical step is judged by its last layer alone, which the
    student's own layers satisfy. For others the weight falls linearly with depth, so that being
    final early pays. The paper names e_{l,t} without its values: this is our choice.
    """
    ranks = torch.arange(num_layers, 0, -1, dtype=torch.float32)
    shallow = ranks / ranks.sum()
    deep = torch.zeros(num_layers)
    deep[-1] = 1.0
    shape = (num_layers, *[1] * criticality.ndim)
    return deep.view(shape) * criticality + shallow.view(shape) * (1.0 - criticality)
