"""The flagship's solver: closed forms, exchange of the images, and no memory of earlier pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import linalg, ndimage
from torch import Tensor

from uresnet.core.sampling import identity_coordinates, sample
from uresnet.solver import symmetric as matching
from uresnet.solver.symmetric import (
    Effort,
    Level,
    Side,
    affine_between,
    displacements,
    finest_velocity,
    velocity_between,
)
from uresnet.transform.deformation import compose_displacements, integrate_velocity, lattice_determinant

SHAPE = (64, 80, 48)  # mm; not a cube
CENTRES = np.array(
    [[-14, -12, 4], [14, -12, 4], [-12, 16, -6], [12, 16, -6], [0, 0, 10], [0, -22, -8], [0, 6, -2], [9, 2, 3]]
)
GROUPS = torch.arange(len(CENTRES) + 1)
QUICK = Effort((Level(8, 6), Level(4, 12), Level(2, 6)), finest=Level(1, 3))


def blobs(matrix: np.ndarray) -> Side:
    """Eight round structures (standard deviation 4 mm) seen through an affine: value(x) = blob(matrix x), mm."""
    half = [n // 2 for n in SHAPE]

    def seen(shape: list[int], spacing: float) -> Tensor:
        middle = torch.tensor([(n - 1) / 2 for n in shape]).view(3, 1, 1, 1)
        x = (identity_coordinates(shape)[0] - middle) * spacing
        m = torch.tensor(matrix, dtype=torch.float32)
        y = (m[:3, :3] @ x.flatten(1) + m[:3, 3:]).view_as(x)
        return torch.stack(
            [torch.exp(-(y - torch.tensor(c).float().view(3, 1, 1, 1)).square().sum(0) / 32) for c in CENTRES]
        )

    some = seen(half, 2.0)
    probabilities = torch.cat([(1 - some.sum(0, keepdim=True)).clamp_min(0), some])
    image = (seen(list(SHAPE), 1.0) * torch.linspace(0.3, 1, len(CENTRES)).view(-1, 1, 1, 1)).sum(0)
    return Side(probabilities, image[None, None], GROUPS)


def affine(turn: float, scale: float, shift: float) -> np.ndarray:
    log = np.array([[0, -turn, 0, shift], [turn, 0, 0, 0], [0, 0, scale, -shift / 2], [0, 0, 0, 0]])
    return linalg.expm(log)


@pytest.fixture(scope="module")
def pair() -> tuple[Side, Side]:
    return blobs(affine(0.2, 0.08, 2.0)), blobs(affine(-0.1, 0.0, -1.0))


def test_the_affine_of_the_centroids_is_the_one_that_moved_them() -> None:
    one, other = affine(0.2, 0.08, 2.0), affine(-0.1, 0.0, -1.0)
    found = linalg.expm(affine_between(blobs(one).probabilities, blobs(other).probabilities))
    # Both show the same blobs: fixed x → blob → moving x.
    np.testing.assert_allclose(found, np.linalg.inv(one) @ other, atol=0.02)


def test_exchanging_the_images_turns_affine_and_velocity_round(pair: tuple[Side, Side]) -> None:
    there = affine_between(pair[0].probabilities, pair[1].probabilities)
    back = affine_between(pair[1].probabilities, pair[0].probabilities)
    np.testing.assert_allclose(there, -back, atol=1e-12)
    one = velocity_between(*pair, there, QUICK)
    other = velocity_between(*reversed(pair), back, QUICK)
    assert one.abs().max() > 0.05
    torch.testing.assert_close(one, -other, atol=1e-3, rtol=0)


def test_the_deformation_brings_the_structures_together_without_folds(pair: tuple[Side, Side]) -> None:
    """Without the affine, all the work is the deformation's."""
    log = np.zeros((4, 4))
    velocity = velocity_between(*pair, log, QUICK)
    forward, _ = displacements(velocity, 2, SHAPE)
    where = identity_coordinates(SHAPE)
    up = [F.interpolate(side.probabilities[None, 1:], size=SHAPE, mode="trilinear") for side in pair]

    def apart(displacement: Tensor) -> float:
        warped = sample(up[0], where + displacement[None], padding="border")
        return float((warped - up[1]).square().sum() / (warped.square().sum() + up[1].square().sum()))

    assert apart(forward) < 0.35 * apart(torch.zeros_like(forward))
    assert lattice_determinant(forward).min() > 0


def test_the_finest_level_turns_round_and_brings_the_images_closer() -> None:
    """A millimetre apart, with all of it left to be done."""
    pair = blobs(affine(0.04, 0.02, 0.6)), blobs(affine(-0.02, 0.0, -0.4))
    nothing = torch.zeros((1, 3, *[n // 2 for n in SHAPE]))
    there = finest_velocity(*pair, np.zeros((4, 4)), nothing, QUICK)
    back = finest_velocity(*reversed(pair), np.zeros((4, 4)), nothing, QUICK)
    assert there.shape == (1, 3, *SHAPE)
    torch.testing.assert_close(there, -back, atol=1e-3, rtol=0)
    forward, _ = displacements(nothing, 2, SHAPE, finest=there)
    warped = sample(pair[0].intensities, identity_coordinates(SHAPE) + forward[None])
    before, after = ((one - pair[1].intensities).square().mean() for one in (pair[0].intensities, warped))
    assert after < 0.3 * before


def test_the_finest_level_begins_where_the_velocity_ends(pair: tuple[Side, Side]) -> None:
    """Images that the affine brings together exactly leave it nothing to do; without the affine there is much."""
    log = affine_between(pair[0].probabilities, pair[1].probabilities)
    nothing = torch.zeros((1, 3, *[n // 2 for n in SHAPE]))
    still = finest_velocity(*pair, log, nothing, QUICK)
    moved = finest_velocity(*pair, np.zeros((4, 4)), nothing, QUICK)
    assert still.square().mean() < 0.1 * moved.square().mean()


@pytest.mark.parametrize("evened", [False, True])
def test_with_the_finest_velocity_it_is_three_exponentials_one_after_the_other(evened: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    knots = torch.randn((1, 3, 5, 5, 5), generator=generator)
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    knots = torch.randn((1, 3, 9, 9, 9), generator=generator)
    finest = 0.4 * F.interpolate(knots, size=SHAPE, mode="trilinear", align_corners=True)
    forward, backward = displacements(velocity, 2, SHAPE, finest=finest, evened=evened)
    half = displacements(velocity / 2, 2, SHAPE)[0][None]
    expected = compose_displacements(compose_displacements(half, integrate_velocity(finest)), half)[0]
    if evened:
        expected = F.avg_pool3d(expected[None], 3, stride=1, padding=1)[0]
    inner = (..., *[slice(8, -8)] * 3)
    assert float((forward - expected)[inner].norm(dim=0).mean()) < 0.02
    residual = compose_displacements(forward[None], backward[None])[0][inner].norm(dim=0)
    assert float(residual.mean()) < 0.02 and float(residual.max()) < 0.2


@pytest.mark.parametrize("shape", [(2, 9, 8, 7), (1, 3, 2, 1)])
@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
def test_smoothing_is_scipys(shape: tuple[int, ...], sigma: float) -> None:
    """The same truncated Gaussian along every axis; the edge continues."""
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
    reach = max(1, round(2.5 * sigma))
    expected = ndimage.gaussian_filter(x.double().numpy(), sigma, mode="nearest", radius=reach, axes=(2, 3, 4))
    np.testing.assert_allclose(matching._smoothed(x, sigma), expected, atol=1e-6)


def test_middles_are_those_of_polynomials_of_fifth_degree() -> None:
    rng = np.random.default_rng(0)
    line = [np.polynomial.Polynomial(rng.normal(size=6), domain=(0, n - 1)) for n in (9, 8, 11)]

    def values(spacing: float) -> np.ndarray:
        i, j, k = (one(np.arange(0, n - 0.5, spacing)) for one, n in zip(line, (9, 8, 11), strict=True))
        return i[:, None, None] * j[:, None] * k

    found = matching._with_middles(torch.from_numpy(values(1.0)).float()[None, None])[0, 0].numpy()
    expected = values(0.5)
    assert found.shape == expected.shape == (17, 15, 21)
    inner = (slice(4, -4),) * 3  # nearer to the ends they are repeated
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(found[::2, ::2, ::2], values(1.0).astype(np.float32))


def test_a_pair_does_not_depend_on_the_pair_before(pair: tuple[Side, Side]) -> None:
    log = affine_between(pair[0].probabilities, pair[1].probabilities)
    first = velocity_between(*pair, log, QUICK)
    velocity_between(blobs(affine(0.3, 0.1, 3.0)), pair[0], log, QUICK)
    assert torch.equal(velocity_between(*pair, log, QUICK), first)


def test_equal_images_stay_where_they_are(pair: tuple[Side, Side]) -> None:
    velocity = velocity_between(pair[0], pair[0], np.zeros((4, 4)), QUICK)
    assert float(velocity.abs().max()) < 1e-6
    finest = finest_velocity(pair[0], pair[0], np.zeros((4, 4)), velocity, QUICK)
    assert float(finest.abs().max()) < 1e-6


def test_forward_and_backward_undo_each_other_and_are_the_exponential() -> None:
    generator = torch.Generator().manual_seed(0)
    knots = torch.randn((1, 3, 5, 5, 5), generator=generator)
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    forward, backward = displacements(velocity, 2, SHAPE)
    residual = compose_displacements(forward[None], backward[None])[0].norm(dim=0)[8:-8, 8:-8, 8:-8]
    assert float(residual.mean()) < 0.01 and float(residual.max()) < 0.1
    coarse = integrate_velocity(velocity)[0] * 2
    expected = F.interpolate(coarse[None], size=SHAPE, mode="trilinear", align_corners=False)[0]
    assert float((forward - expected).norm(dim=0)[8:-8, 8:-8, 8:-8].mean()) < 0.1


def test_only_where_it_is_asked_for_the_inverse_is_mended() -> None:
    knots = torch.randn((1, 3, 5, 5, 5), generator=torch.Generator().manual_seed(0))
    velocity = F.interpolate(knots, size=[n // 2 for n in SHAPE], mode="trilinear", align_corners=True)
    where = torch.zeros([n // 2 for n in SHAPE], dtype=torch.bool)
    where[4:20] = True
    forward, backward = displacements(velocity, 2, SHAPE, where)
    residual = compose_displacements(forward[None], backward[None])[0].norm(dim=0)[:, 8:-8, 8:-8]
    assert float(residual[14:34].mean()) < 0.01 and float(residual[14:34].max()) < 0.1
    assert float(residual[46:-4].mean()) > 3 * float(residual[14:34].mean())


def test_too_few_structures_are_said() -> None:
    nothing = torch.zeros(9, 8, 8, 8)
    with pytest.raises(ValueError, match="fewer than six"):
        affine_between(nothing, nothing)


@pytest.mark.parametrize("axis", range(3))
def test_divergence_is_damped_as_its_wave_length_says_and_shear_is_left(axis: int) -> None:
    """sin(kx) along x loses the share 0.3 sin²k of itself by central differences, and nothing along another axis."""
    shape, k = (40, 32, 36), 0.7
    wave = torch.sin(k * identity_coordinates(shape)[0, axis])
    velocity = torch.zeros(1, 3, *shape)
    velocity[0, axis], velocity[0, (axis + 1) % 3] = wave, wave
    before = velocity.clone()
    matching._diffuse_divergence(velocity)
    inner = (slice(None), *(slice(2, -2),) * 3)
    expected = before[0].clone()
    expected[axis] *= 1 - 0.3 * np.sin(k) ** 2
    torch.testing.assert_close(velocity[0][inner], expected[inner], atol=1e-5, rtol=0)


def test_less_divergence_means_volumes_that_change_less(pair: tuple[Side, Side]) -> None:
    """For as good a match: the logarithm of the Jacobian spreads less."""
    log = np.zeros((4, 4))
    spread, apart = [], []
    for divergence in (0, 3):
        levels = (Level(8, 6, divergence=divergence), Level(4, 12, divergence=divergence), Level(2, 6))
        velocity = velocity_between(*pair, log, Effort(levels))
        forward, _ = displacements(velocity, 2, SHAPE)
        spread.append(float(lattice_determinant(forward).log().std()))
        where = identity_coordinates(SHAPE) + forward[None]
        apart.append(
            float((sample(pair[0].intensities, where, padding="border") - pair[1].intensities).square().mean())
        )
    assert spread[1] < 0.9 * spread[0]
    assert apart[1] < 1.2 * apart[0]
