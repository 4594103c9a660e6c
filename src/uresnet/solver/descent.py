"""Gradient descent on a smooth velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from uresnet.core.steps import step_done
from uresnet.solver.lattice import gaussian_smoothed
from uresnet.solver.settings import Level

_MOMENTUM, _MEMORY = 0.8, 0.95  # of the force and of its square, as Adam's
_QUIET = 0.6  # share of the mean force below which forces count as noise
_DIVERGENCE_STEP = 0.3  # above a third, the diffusion of the divergence overshoots


class Descent:
    """Steps against a smoothed force, with momentum; their length hardly depends on the size of the force."""

    def __init__(self, level: Level, velocity: Tensor) -> None:
        self.level = level
        self.force_mean, self.square_mean = torch.zeros_like(velocity), torch.zeros_like(velocity[:, :1])
        self.count = 0

    def step(self, velocity: Tensor, force: Tensor) -> Tensor:
        """The velocity after a step, smoothed; both (1, 3, i, j, k)."""
        self.count += 1
        force = gaussian_smoothed(force, self.level.force_sigma)
        self.force_mean.lerp_(force, 1 - _MOMENTUM)
        square = force[:, :1].square()
        for component in (force[:, 1:2], force[:, 2:]):
            square.addcmul_(component, component)
        self.square_mean.lerp_(gaussian_smoothed(square, 2.0), 1 - _MEMORY)
        quiet = _QUIET * mean_of(self.square_mean).sqrt() + 1e-12
        size = (self.square_mean / (1 - _MEMORY**self.count)).sqrt_().add_(quiet)
        rate = self.level.rate / (1 - _MOMENTUM**self.count)
        stepped = torch.addcdiv(velocity, self.force_mean, size, value=-rate)
        velocity = gaussian_smoothed(stepped, self.level.velocity_sigma)
        for _ in range(self.level.divergence_steps):
            diffuse_divergence(velocity)
        step_done()
        return velocity


def mean_of(x: Tensor) -> Tensor:
    """The mean of (1, 1, i, j, k), one axis after the other: in an order that does not depend on the number of threads,
    which a sum over all of a large tensor does."""
    return x.mean(dim=4).mean(dim=3).mean()


def diffuse_divergence(velocity: Tensor) -> None:
    """v + s ∇(∇ · v) in place, (1, 3, i, j, k), by central differences: a step of diffusion of the divergence.

    Swelling and shrinking are smoothed, shear is left as it is. The faces stay.
    """
    divergence = torch.zeros_like(velocity[0, 0])
    for axis, along in enumerate(velocity[0]):
        inner, n = divergence.narrow(axis, 1, along.shape[axis] - 2), along.shape[axis]
        inner.add_(along.narrow(axis, 2, n - 2)).sub_(along.narrow(axis, 0, n - 2))
    step = _DIVERGENCE_STEP / 4  # of two differences over two voxels
    for axis, along in enumerate(velocity[0]):
        inner, n = along.narrow(axis, 1, along.shape[axis] - 2), along.shape[axis]
        inner.add_(divergence.narrow(axis, 2, n - 2), alpha=step).sub_(divergence.narrow(axis, 0, n - 2), alpha=step)
