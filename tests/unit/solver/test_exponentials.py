"""Displacements of velocities: they are exponentials and invert each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from solver_images import SHAPE
from uresnet.solver import exponentials
from uresnet.solver.lattice import gaussian_smoothed
from uresnet.transform import compose_displacements, integrate_velocity, lattice_determinant


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1 / 3])
def test_with_the_residual_velocity_it_is_three_exponentials_one_after_the_other(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    knots = torch.randn((1, 3, 5, 5, 5), generator=generator)
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    knots = torch.randn((1, 3, 9, 9, 9), generator=generator)
    residual = 0.4 * F.interpolate(knots, size=SHAPE, mode="trilinear", align_corners=True)
    forward, backward = exponentials(velocity, 2, SHAPE, residual=residual, smoothing=smoothing)
    half = exponentials(velocity / 2, 2, SHAPE)[0][None]
    expected = compose_displacements(compose_displacements(half, integrate_velocity(residual)), half)[0]
    neighbours = torch.tensor([smoothing, 1 - 2 * smoothing, smoothing])
    weights = torch.einsum("i,j,k->ijk", neighbours, neighbours, neighbours)
    expected = F.conv3d(expected[:, None], weights[None, None], padding=1)[:, 0]
    inner = (..., slice(8, -8), slice(8, -8), slice(8, -8))
    assert float((forward - expected)[inner].norm(dim=0).mean()) < 0.02
    error = compose_displacements(forward[None], backward[None])[0][inner].norm(dim=0)
    assert float(error.mean()) < 0.02 and float(error.max()) < 0.2


def test_forward_and_backward_undo_each_other_and_are_the_exponential() -> None:
    generator = torch.Generator().manual_seed(0)
    knots = torch.randn((1, 3, 5, 5, 5), generator=generator)
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    forward, backward = exponentials(velocity, 2, SHAPE)
    residual = compose_displacements(forward[None], backward[None])[0].norm(dim=0)[8:-8, 8:-8, 8:-8]
    assert float(residual.mean()) < 0.01 and float(residual.max()) < 0.1
    coarse = integrate_velocity(velocity)[0] * 2
    expected = F.interpolate(coarse[None], size=SHAPE, mode="trilinear", align_corners=False)[0]
    assert float((forward - expected).norm(dim=0)[8:-8, 8:-8, 8:-8].mean()) < 0.1


def test_the_inverse_is_corrected_only_where_it_is_asked_for() -> None:
    knots = torch.randn((1, 3, 5, 5, 5), generator=torch.Generator().manual_seed(0))
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    where = torch.zeros([n // 2 for n in SHAPE], dtype=torch.bool)
    where[4:20] = True
    forward, backward = exponentials(velocity, 2, SHAPE, where)
    residual = compose_displacements(forward[None], backward[None])[0].norm(dim=0)[:, 8:-8, 8:-8]
    assert float(residual[14:34].mean()) < 0.01 and float(residual[14:34].max()) < 0.1
    assert float(residual[46:-4].mean()) > 3 * float(residual[14:34].mean())


@pytest.mark.parametrize("amplitude", [10.0, 40.0])
def test_a_velocity_too_rough_to_be_integrated_is_smoothed_until_nothing_folds(amplitude: float) -> None:
    noise = torch.randn((1, 3, 12, 14, 10), generator=torch.Generator().manual_seed(0))
    rough = amplitude * gaussian_smoothed(noise, 1.0)
    unrepaired = 2 * integrate_velocity(rough, 4)[0]
    assert lattice_determinant(unrepaired / 2).min() < 0
    forward, backward = exponentials(rough, 2, (24, 28, 20), smoothing=1 / 3)
    for displacement in (forward, backward):
        assert lattice_determinant(displacement)[1:-1, 1:-1, 1:-1].min() > 0
    negative = exponentials(-rough, 2, (24, 28, 20), smoothing=1 / 3)
    torch.testing.assert_close(negative[0], backward)


def test_where_smoothing_does_not_help_the_velocity_is_halved() -> None:
    """As where a brain reaches the end of the lattice: 1005 to 1017 of OASIS folded after any number of smoothings."""
    noise = torch.randn((1, 3, 12, 14, 10), generator=torch.Generator().manual_seed(1))
    for displacement in exponentials(
        200 * gaussian_smoothed(noise, 1.5), 2, (24, 28, 20), smoothing=0.3, stored_mm=0.7
    ):
        assert lattice_determinant(displacement / 0.7)[1:-1, 1:-1, 1:-1].min() > 0


def test_a_deformation_that_cannot_be_repaired_is_an_error() -> None:
    noise = torch.randn((1, 3, 12, 14, 10), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ArithmeticError, match="folds"):
        exponentials(1e4 * noise, 2, (24, 28, 20))
