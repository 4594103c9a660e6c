"""Slices, bias, stripping, cut fields of view: by hand and by property."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from uresnet.training.examples.acquisition import (
    coarse,
    field_of_view,
    random_direction,
    stripped_unevenly,
    thick_slices_along,
    to_unit_range,
    with_bias,
    with_rim,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [2, 3, 5])
def test_slices_along_an_axis_are_means_of_whole_voxels(axis: int, thickness: int) -> None:
    shape = [6, 7, 8]
    shape[axis] = 4 * thickness
    image = torch.rand((1, 1, *shape), generator=generator())
    size = [1, 1, 1]
    size[axis] = thickness
    means = F.avg_pool3d(image, size)
    expected = F.interpolate(means, size=shape, mode="trilinear")  # linear between centres, level beyond the outer ones
    direction = torch.eye(3)[axis]
    found = thick_slices_along(image, direction, thickness)
    inner = slice(thickness // 2, shape[axis] - (thickness + 1) // 2)
    cut = tuple(inner if a == axis else slice(None) for a in range(3))
    torch.testing.assert_close(found[0, 0][cut], expected[0, 0][cut], atol=1e-5, rtol=0)
    # Slices of one voxel are the image.
    torch.testing.assert_close(thick_slices_along(image, direction, 1.0), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("thickness", [2.0, 3.7, 5.0])
def test_tilted_slices_leave_a_slope_as_it_is(thickness: float) -> None:
    """The mean over a slice of something linear is its value in the middle, and so is what lies between two."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(30.0)] * 3, indexing="ij"))
    image = (0.02 * grid[0] - 0.01 * grid[1] + 0.03 * grid[2])[None, None]
    direction = torch.tensor([0.3, -0.2, 1.0])
    direction = direction / direction.norm()
    found = thick_slices_along(image, direction, thickness)
    inner = (..., slice(9, 21), slice(9, 21), slice(9, 21))
    torch.testing.assert_close(found[inner], image[inner], atol=1e-4, rtol=0)


def test_noise_of_a_slice_is_the_same_through_its_thickness() -> None:
    image, noise = torch.zeros((1, 1, 4, 4, 12)), torch.randn((1, 1, 4, 4, 12), generator=generator())
    found = thick_slices_along(image, torch.tensor([0.0, 0, 1]), 3, noise)
    # Centres of slices are the voxels 1, 4, 7, 10, which hold the noise of that voxel.
    torch.testing.assert_close(found[..., 1:12:3], noise[..., 1:12:3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[..., 2], (2 * noise[..., 1] + noise[..., 4]) / 3, atol=1e-5, rtol=0)


def test_directions_are_unit_vectors_near_an_axis() -> None:
    found = torch.stack([random_direction(generator(seed)) for seed in range(200)])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(200))
    nearest = found.abs().max(dim=1)
    assert float(nearest.values.min()) > 0.9 and set(nearest.indices.tolist()) == {0, 1, 2}
    assert 0.45 < float((nearest.values == 1).float().mean()) < 0.75


def test_coarse_voxels_keep_the_mean_and_lose_detail() -> None:
    image = torch.rand((1, 1, 24, 24, 24), generator=generator())
    found = coarse(image, (2.0, 3.0, 1.0))
    assert found.shape == image.shape and float(found.std()) < 0.7 * float(image.std())
    assert abs(float(found.mean() - image.mean())) < 0.01
    torch.testing.assert_close(coarse(image, (1.0, 1.0, 1.0)), image)


def test_a_bias_field_has_the_strength_that_was_asked_for() -> None:
    image = torch.full((1, 1, 24, 24, 24), 0.5)
    assert torch.equal(with_bias(image, 0.0, generator()), image)
    logarithm = (with_bias(image, 0.2, generator()) / image).log()
    assert float(logarithm.std()) == pytest.approx(0.2, abs=1e-3)


def test_stripping_leaves_a_rim_or_takes_one() -> None:
    brain = torch.zeros((1, 1, 32, 32, 32), dtype=torch.bool)
    brain[..., 8:24, 8:24, 8:24] = True
    core = torch.zeros_like(brain)
    core[..., 11:21, 11:21, 11:21] = True
    far = F.max_pool3d(brain.float(), 15, 1, 7) == 0
    kinds = []
    for seed in range(30):
        left = stripped_unevenly(brain, generator(seed))
        assert bool(left[core].all()) and not bool(left[far].any())
        kinds.append(bool((left & ~brain).any()) - bool((brain & ~left).any()))
    assert kinds.count(1) > 14 and kinds.count(-1) > 4
    image = torch.where(brain, 0.7, 0.0)
    left = F.max_pool3d(brain.float(), 3, 1, 1) > 0
    found = with_rim(image, brain, left, 0.3, generator())
    assert torch.equal(found[brain], image[brain]) and float(found[~left].abs().max()) == 0
    assert abs(float(found[left & ~brain].mean()) - 0.3) < 0.02


def test_a_field_of_view_ends_at_one_side_of_one_axis() -> None:
    for seed in range(12):
        kept = field_of_view(torch.Size((20, 24, 28)), 0.25, generator(seed))[0, 0]
        sides = [kept.any(dim=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        missing = [int((~side).sum()) for side in sides]
        assert sum(n > 0 for n in missing) == 1 and int(kept.sum()) == 20 * 24 * 28 * (
            1 - max(m / n for m, n in zip(missing, kept.shape, strict=True))
        )
        assert max(missing) <= 0.25 * 28


def test_percentiles_go_to_0_and_1() -> None:
    image = torch.arange(1001.0).view(1, 1, 7, 11, 13)
    inside = image > -1
    inside[0, 0, 0, 0, 0] = False
    found = to_unit_range(image, inside, 0.0, 1.0)
    assert float(found[0, 0, 0, 0, 1]) == 0 and float(found.max()) == 1
    assert float(found.flatten()[500]) == pytest.approx((500 - 1) / 999)
    assert float(to_unit_range(image, torch.zeros_like(inside), 0, 1).abs().max()) == 0
