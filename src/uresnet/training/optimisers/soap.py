"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321), for small networks.

Why it is here: the deformable head's output is summed along an axis, so that the part of a gradient that stretches all
voxels alike is much larger than the part that moves one structure, and its sign changes from pair to pair. Adam scales
every weight by both together and hardly learns the second. In the eigenbasis of the gradients' covariance the two are
different coordinates, each with its own scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class Soap(torch.optim.Optimizer):
    """SOAP; a weight is the matrix (outputs, everything else). A side longer than ``largest`` is not transformed.

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
        largest: int = 1024,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "covariance_decay": covariance_decay, "refresh": refresh, "eps": epsilon}
        defaults["largest"] = largest
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
        is_first = not state
        if is_first:
            _start(state, gradient, group["largest"])
        keep = group["covariance_decay"]
        for side, rows in _sides(state, gradient):
            state[side].lerp_(rows @ rows.T, 1 - keep)
            if is_first:
                state[f"{side}_basis"] = torch.linalg.eigh(state[side])[1].flip(1).contiguous()
        if is_first:
            return
        state["step"] += 1
        count = int(state["step"])
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        rotated = _to_eigenbases(state, gradient)
        state["exp_avg_sq"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        mean = _to_eigenbases(state, state["exp_avg"]) / (1 - beta1**count)
        scale = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + group["eps"]
        update = _from_eigenbases(state, mean / scale)
        parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-group["lr"])
        if count % group["refresh"] == 0:
            _refresh(state)


def _start(state: State, gradient: Tensor, largest: int) -> None:
    state["step"] = torch.zeros((), dtype=torch.float32)
    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    for side, n in zip(("left", "right"), gradient.shape, strict=True):
        if n <= largest:
            state[side] = gradient.new_zeros(n, n)


def _sides(state: State, gradient: Tensor) -> list[tuple[str, Tensor]]:
    """The sides that have a covariance, each with the gradient whose rows it is the covariance of."""
    return [(side, rows) for side, rows in (("left", gradient), ("right", gradient.T)) if side in state]


def _to_eigenbases(state: State, matrix: Tensor) -> Tensor:
    matrix = state["left_basis"].T @ matrix if "left" in state else matrix
    return matrix @ state["right_basis"] if "right" in state else matrix


def _from_eigenbases(state: State, matrix: Tensor) -> Tensor:
    matrix = state["left_basis"] @ matrix if "left" in state else matrix
    return matrix @ state["right_basis"].T if "right" in state else matrix


def _refresh(state: State) -> None:
    """One step of subspace iteration for the bases, the largest eigenvalue first; second moments are reordered
    with them."""
    for axis, side in enumerate(("left", "right")):
        if side not in state:
            continue
        basis = state[f"{side}_basis"]
        product = state[side] @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(product[:, order])[0].contiguous()
