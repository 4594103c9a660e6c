"""Muon: momentum whose direction is made orthogonal, for the inner convolutions; AdamW for everything else.

K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. A convolution's weight is the matrix (outputs,
everything else); its momentum is replaced by the nearest matrix with equal singular values, so that no few directions
take all of a step. The step is scaled to the size that Adam's would have (J. Liu et al. 2025, arXiv:2502.16982): one
rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]

_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of the published method: pushes singular values towards 1 from 0.01 on
_STEPS = 5
_ADAM_SIZE = 0.2  # root mean square of an update of Adam


class Muon(torch.optim.Optimizer):
    """Groups with ``orthogonal=True`` take orthogonalised momentum, the others AdamW, both with the group's rate."""

    def __init__(
        self,
        groups: Iterable[Any],
        lr: float = 3e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
        epsilon: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": epsilon}
        super().__init__(groups, defaults | {"orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient. A closure is not supported."""
        for group in self.param_groups:
            update = _orthogonal if group["orthogonal"] else _adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    if parameter.ndim > 1:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update(parameter.grad, self.state[parameter], group), alpha=-group["lr"])


def _orthogonal(gradient: Tensor, state: State, group: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    keep = group["momentum"]
    state["momentum"].lerp_(gradient, 1 - keep)
    ahead = gradient.lerp(state["momentum"], keep)  # Nesterov's
    matrix = ahead.reshape(len(ahead), -1)
    return (orthogonalised(matrix) * (_ADAM_SIZE * max(matrix.shape) ** 0.5)).view_as(gradient)


def orthogonalised(matrix: Tensor) -> Tensor:
    """(R, C) → the same shape: its singular values brought near 1 (0.7 to 1.2), its singular vectors kept."""
    a, b, c = _POLYNOMIAL
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.float().T if tall else matrix.float()
    x = x / (x.norm() + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def _adam(gradient: Tensor, state: State, group: dict[str, Any]) -> Tensor:
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    count, (beta1, beta2) = int(state["step"]), group["betas"]
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + group["eps"]
    return state["exp_avg"] / (1 - beta1**count) / scale
