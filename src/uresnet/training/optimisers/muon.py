"""Muon: orthogonalised momentum for the inner convolutions, AdamW for everything else.

K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. A convolution's weight is the matrix
(outputs, everything else); its momentum is replaced by the nearest matrix with equal singular values, so that no few
directions dominate a step. The step is scaled to the size that Adam's would have (J. Liu et al. 2025,
arXiv:2502.16982), so that one learning rate serves both.
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
            trained = [p for p in group["params"] if p.grad is not None]
            if not trained:
                continue
            torch._foreach_mul_([p for p in trained if p.ndim > 1], 1 - group["lr"] * group["weight_decay"])
            update = _orthogonal if group["orthogonal"] else _adam
            updates = update([p.grad for p in trained], [self.state[p] for p in trained], group)
            torch._foreach_add_(trained, updates, alpha=-group["lr"])


# On a GPU the time of a step on many small tensors is that of launching kernels: hence all tensors in one call, and
# matrices of the same shape together.


def _orthogonal(gradients: list[Tensor], states: list[State], group: dict[str, Any]) -> list[Tensor]:
    for gradient, state in zip(gradients, states, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
    keep, momenta = group["momentum"], [state["momentum"] for state in states]
    torch._foreach_lerp_(momenta, gradients, 1 - keep)
    ahead = torch._foreach_lerp(gradients, momenta, keep)  # Nesterov momentum
    updates: list[Tensor] = list(ahead)
    of_shape: dict[tuple[int, int], list[int]] = {}
    for n, momentum in enumerate(ahead):
        of_shape.setdefault((len(momentum), momentum.numel() // len(momentum)), []).append(n)
    for shape, numbers in of_shape.items():
        matrices = torch.stack([ahead[n].reshape(shape) for n in numbers])
        orthogonal = orthogonalised(matrices) * (_ADAM_SIZE * max(shape) ** 0.5)
        for n, matrix in zip(numbers, orthogonal, strict=True):
            updates[n] = matrix.reshape(gradients[n].shape)
    return updates


def orthogonalised(matrices: Tensor) -> Tensor:
    """(..., R, C) → the same shape: singular values brought near 1 (0.7 to 1.2), singular vectors kept."""
    a, b, c = _POLYNOMIAL
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.float().mT if tall else matrices.float()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.mT if tall else x
    return result.to(matrices.dtype)


def _adam(gradients: list[Tensor], states: list[State], group: dict[str, Any]) -> list[Tensor]:
    for gradient, state in zip(gradients, states, strict=True):
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
    counts, (beta1, beta2) = [int(state["step"]) for state in states], group["betas"]
    means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    scales = torch._foreach_div(squares, [1 - beta2**n for n in counts])
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, group["eps"])
    updates = torch._foreach_div(means, [1 - beta1**n for n in counts])
    torch._foreach_div_(updates, scales)
    return list(updates)
