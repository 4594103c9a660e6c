"""The solver: exchange of the images, no memory of earlier pairs, and images that come together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solver_images import QUICK, SHAPE, affine, blobs
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.sampling import sample
from uresnet.solver import (
    Level,
    SolverImage,
    SolverSettings,
    affine_between,
    exponentials,
    residual_velocity,
    velocity_between,
)
from uresnet.transform import lattice_determinant


@pytest.fixture(scope="module")
def pair() -> tuple[SolverImage, SolverImage]:
    return blobs(affine(0.2, 0.08, 2.0)), blobs(affine(-0.1, 0.0, -1.0))


def test_exchanging_the_images_turns_affine_and_velocity_round(pair: tuple[SolverImage, SolverImage]) -> None:
    there = affine_between(pair[0].probabilities, pair[1].probabilities)
    back = affine_between(pair[1].probabilities, pair[0].probabilities)
    np.testing.assert_allclose(there, -back, atol=1e-12)
    one = velocity_between(pair[0], pair[1], there, QUICK)
    other = velocity_between(pair[1], pair[0], back, QUICK)
    assert one.abs().max() > 0.05
    torch.testing.assert_close(one, -other, atol=1e-3, rtol=0)


def test_the_deformation_brings_the_structures_together_without_folds(pair: tuple[SolverImage, SolverImage]) -> None:
    """Without the affine, all the work is the deformation's."""
    log = np.zeros((4, 4))
    velocity = velocity_between(pair[0], pair[1], log, QUICK)
    forward, _ = exponentials(velocity, 2, SHAPE)
    where = identity_coordinates(SHAPE)
    up = [F.interpolate(side.probabilities[None, 1:], size=SHAPE, mode="trilinear") for side in pair]

    def apart(displacement: Tensor) -> float:
        warped = sample(up[0], where + displacement[None], padding="border")
        return float((warped - up[1]).square().sum() / (warped.square().sum() + up[1].square().sum()))

    assert apart(forward) < 0.35 * apart(torch.zeros_like(forward))
    assert lattice_determinant(forward).min() > 0


def test_the_residual_velocity_turns_round_and_brings_the_images_closer() -> None:
    """A millimetre apart, with all of it left to be done."""
    pair = blobs(affine(0.04, 0.02, 0.6)), blobs(affine(-0.02, 0.0, -0.4))
    nothing = torch.zeros((1, 3, *[n // 2 for n in SHAPE]))
    there = residual_velocity(pair[0], pair[1], np.zeros((4, 4)), nothing, QUICK)
    back = residual_velocity(pair[1], pair[0], np.zeros((4, 4)), nothing, QUICK)
    assert there.shape == (1, 3, *SHAPE)
    torch.testing.assert_close(there, -back, atol=1e-3, rtol=0)
    forward, _ = exponentials(nothing, 2, SHAPE, residual=there)
    warped = sample(pair[0].intensities, identity_coordinates(SHAPE) + forward[None])
    before, after = ((one - pair[1].intensities).square().mean() for one in (pair[0].intensities, warped))
    assert after < 0.3 * before


def test_the_residual_velocity_begins_where_the_velocity_ends(pair: tuple[SolverImage, SolverImage]) -> None:
    """Images that the affine brings together exactly leave it nothing to do; without the affine there is much."""
    log = affine_between(pair[0].probabilities, pair[1].probabilities)
    nothing = torch.zeros((1, 3, *[n // 2 for n in SHAPE]))
    still = residual_velocity(pair[0], pair[1], log, nothing, QUICK)
    moved = residual_velocity(pair[0], pair[1], np.zeros((4, 4)), nothing, QUICK)
    assert still.square().mean() < 0.1 * moved.square().mean()


def test_a_pair_does_not_depend_on_the_pair_before(pair: tuple[SolverImage, SolverImage]) -> None:
    log = affine_between(pair[0].probabilities, pair[1].probabilities)
    first = velocity_between(pair[0], pair[1], log, QUICK)
    velocity_between(blobs(affine(0.3, 0.1, 3.0)), pair[0], log, QUICK)
    assert torch.equal(velocity_between(pair[0], pair[1], log, QUICK), first)


def test_equal_images_stay_where_they_are(pair: tuple[SolverImage, SolverImage]) -> None:
    velocity = velocity_between(pair[0], pair[0], np.zeros((4, 4)), QUICK)
    assert float(velocity.abs().max()) < 1e-6
    residual = residual_velocity(pair[0], pair[0], np.zeros((4, 4)), velocity, QUICK)
    assert float(residual.abs().max()) < 1e-6


def test_less_divergence_means_volumes_that_change_less(pair: tuple[SolverImage, SolverImage]) -> None:
    """For as good a match: the logarithm of the Jacobian spreads less."""
    log = np.zeros((4, 4))
    spread, apart = [], []
    for divergence in (0, 3):
        levels = (Level(8, 6, divergence_steps=divergence), Level(4, 12, divergence_steps=divergence), Level(2, 6))
        velocity = velocity_between(pair[0], pair[1], log, SolverSettings(levels))
        forward, _ = exponentials(velocity, 2, SHAPE)
        spread.append(float(lattice_determinant(forward).log().std()))
        where = identity_coordinates(SHAPE) + forward[None]
        apart.append(
            float((sample(pair[0].intensities, where, padding="border") - pair[1].intensities).square().mean())
        )
    assert spread[1] < 0.9 * spread[0]
    assert apart[1] < 1.2 * apart[0]


def test_nothing_pulls_where_an_image_says_nothing() -> None:
    """One image is cut in the middle: there the deformation must not squeeze the other one's rest against the cut."""
    whole, moved = blobs(np.eye(4)), blobs(affine(0.0, 0.0, 1.5))
    ignored = torch.zeros(1, 1, *SHAPE)
    ignored[..., SHAPE[2] // 2 :] = 1
    seen = 1 - ignored
    cut_probabilities = moved.probabilities * (1 - F.max_pool3d(ignored, 2)[0])
    cut_probabilities[0] = 1 - cut_probabilities[1:].sum(0)
    cut = SolverImage(cut_probabilities, moved.intensities * seen, moved.groups)
    told = SolverImage(cut_probabilities, moved.intensities * seen, moved.groups, ignored)
    zero = np.zeros((4, 4))
    truth = exponentials(velocity_between(moved, whole, zero, QUICK), 2, SHAPE)[0]
    squeezed = exponentials(velocity_between(cut, whole, zero, QUICK), 2, SHAPE)[0]
    careful = exponentials(velocity_between(told, whole, zero, QUICK), 2, SHAPE)[0]
    brain = (whole.probabilities[1:].sum(0) > 0.3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    brain = brain.repeat_interleave(2, 2)

    def error(found: Tensor) -> float:
        return float((found - truth).norm(dim=0)[brain].mean())

    assert error(careful) < 0.5 * error(squeezed)
    swapped = velocity_between(whole, told, zero, QUICK)
    torch.testing.assert_close(swapped, -velocity_between(told, whole, zero, QUICK), atol=1e-5, rtol=0)
    residual = residual_velocity(told, whole, zero, -swapped, QUICK)
    assert torch.isfinite(residual).all()
