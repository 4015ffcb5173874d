"""Muon in float32: torch's own works in bfloat16, which a CPU without such units does very slowly."""

from __future__ import annotations

from collections.abc import Iterable

import torch

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al., 2024: the quintic's coefficients


def orthogonal(matrix: torch.Tensor, num_iterations: int = 5) -> torch.Tensor:
    """Near the orthogonal factor of a float32 [M, N]: singular values between about 0.7 and 1.2.

    Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(num_iterations):
        gram = x @ x.T
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    result: torch.Tensor = x.T if is_tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's) made orthogonal, scaled to the size of an AdamW update.

    The scale, 0.2 sqrt(max(M, N)), is from Liu et al., 2025 (2502.16982), section 2.2: both
    optimizers can then share one learning rate.
    """

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(list(matrices), defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                mean = state.setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(mean, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)
