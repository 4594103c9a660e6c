"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321), for small networks.

Why it is here: the deformable head's output is summed along an axis, so the part of a gradient that stretches all
voxels alike outweighs the part that places one structure, and its sign changes from pair to pair. Adam scales every
weight by both together, and hardly learns the second. In the eigenbasis of the gradients' covariance the two are
different coordinates, each with its own scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class Soap(torch.optim.Optimizer):
    """SOAP for weights of up to a few thousand numbers a layer; a weight is the matrix (outputs, everything else).

    ``betas`` are Adam's, ``covariance_decay`` is that of the gradients' covariances, whose eigenbases are refreshed
    every ``refresh`` updates by one step of subspace iteration. The first update only collects statistics.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        covariance_decay: float = 0.95,
        refresh: int = 5,
        epsilon: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "covariance_decay": covariance_decay, "refresh": refresh, "eps": epsilon}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient. A closure is not supported."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, self.state[parameter], group)

    def _update(self, parameter: Tensor, state: State, group: dict[str, Any]) -> None:
        gradient = parameter.grad.float()  # type: ignore[union-attr]
        gradient = gradient.reshape(gradient.shape[0], -1) if gradient.ndim > 1 else gradient.reshape(1, -1)
        first = not state
        if first:
            _start(state, gradient)
        keep = group["covariance_decay"]
        state["left"].lerp_(gradient @ gradient.T, 1 - keep)
        state["right"].lerp_(gradient.T @ gradient, 1 - keep)
        if first:
            for side in ("left", "right"):
                state[f"{side}_basis"] = torch.linalg.eigh(state[side])[1].flip(1).contiguous()
            return
        state["step"] += 1
        count = int(state["step"])
        beta1, beta2 = group["betas"]
        left, right = state["left_basis"], state["right_basis"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        turned = left.T @ gradient @ right
        state["exp_avg_sq"].mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
        mean = (left.T @ state["exp_avg"] @ right) / (1 - beta1**count)
        scale = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + group["eps"]
        update = left @ (mean / scale) @ right.T
        parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-group["lr"])
        if count % group["refresh"] == 0:
            _refresh(state)


def _start(state: State, gradient: Tensor) -> None:
    rows, columns = gradient.shape
    state["step"] = torch.zeros((), dtype=torch.float32)
    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["left"], state["right"] = gradient.new_zeros(rows, rows), gradient.new_zeros(columns, columns)


def _refresh(state: State) -> None:
    """One step of subspace iteration for both bases, the largest eigenvalue first; second moments move along."""
    for axis, side in enumerate(("left", "right")):
        basis = state[f"{side}_basis"]
        product = state[side] @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(product[:, order])[0].contiguous()
