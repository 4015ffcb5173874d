"""Muon in float32: near-orthogonal updates, and the steps of torch's own, which is in bfloat16."""

from __future__ import annotations

import pytest
import torch

from sottovoce_training.reasoner.muon import Muon, orthogonal


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(48, 48), (32, 96), (96, 32)])
def test_an_update_keeps_directions_and_evens_lengths(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonal(matrix) @ right.T
    lengths = inside.diagonal()
    assert 0.5 < lengths.min() <= lengths.max() < 1.3
    assert (inside - torch.diag(lengths)).abs().max() < 1e-4


def test_steps_are_those_of_torchs_own() -> None:
    """Over ten steps on one problem; theirs rounds to bfloat16, 3 digits, inside each."""
    target, found = random(24, 40, seed=1), []
    for build in (
        lambda p: Muon([p], lr=0.02, weight_decay=0.1),
        lambda p: torch.optim.Muon([p], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ):
        parameter = torch.nn.Parameter(random(24, 40))
        optimizer = build(parameter)
        for _ in range(10):
            optimizer.zero_grad()
            torch.autograd.backward(((parameter - target) ** 2).sum())
            optimizer.step()
        found.append(parameter.detach() - random(24, 40))
    ours, theirs = found
    assert (ours - theirs).norm() < 0.02 * theirs.norm()
    assert theirs.norm() > 1


def test_what_has_no_gradient_stays() -> None:
    parameter = torch.nn.Parameter(random(4, 4))
    Muon([parameter], lr=1.0, weight_decay=1.0).step()
    assert torch.equal(parameter, random(4, 4))
