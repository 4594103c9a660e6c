"""scipy.ndimage.map_coordinates is the oracle: another implementation of the same definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.ops import FeatureRows, read_rows
from uresnet.core.sampling import (
    along_axes,
    averaging_matrix,
    interpolation_matrix,
    sample,
    sample_cubic,
    sample_labels,
    sample_points,
)

SHAPES = [(5, 6, 7), (9, 4, 13), (1, 6, 7), (5, 1, 7), (5, 6, 1), (1, 1, 1)]
SCIPY_MODE = {"zeros": "grid-constant", "border": "nearest"}


def volume_and_places(shape, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=(channels, *shape)).astype(np.float32)
    places = rng.uniform(-3, np.array(shape)[:, None, None, None] + 2, (3, 4, 5, 6)).astype(np.float32)
    return volume, places


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_is_scipys(shape, padding):
    volume, places = volume_and_places(shape, channels=2)
    found = sample(torch.from_numpy(volume)[None], torch.from_numpy(places)[None], padding=padding)[0].numpy()
    expected = [ndimage.map_coordinates(one, places, order=1, mode=SCIPY_MODE[padding]) for one in volume]
    np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cubic_is_scipys(shape, padding):
    volume, places = volume_and_places(shape)
    found = sample_cubic(torch.from_numpy(volume)[None], torch.from_numpy(places)[None], padding)[0, 0].numpy()
    np.testing.assert_allclose(
        found, ndimage.map_coordinates(volume[0], places, order=3, mode=SCIPY_MODE[padding]), atol=5e-6
    )


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_is_the_closest_voxel(shape, padding):
    volume, places = volume_and_places(shape)
    found = sample(torch.from_numpy(volume)[None], torch.from_numpy(places)[None], "nearest", padding)[0, 0].numpy()
    closest = np.rint(places).astype(int)
    size = np.array(shape)[:, None, None, None]
    expected = volume[0][tuple(np.clip(closest, 0, size - 1))]
    if padding == "zeros":
        expected = np.where(((closest >= 0) & (closest < size)).all(axis=0), expected, 0)
    np.testing.assert_array_equal(found, expected)


def test_each_axis_is_itself():
    """A ramp along one axis reads back that axis' coordinate: nothing is reversed or exchanged."""
    shape = (4, 5, 6)
    ramp = identity_coordinates(shape)
    places = torch.tensor([[0.5, 3.25, 1.75], [2.0, 0.125, 4.5]])
    torch.testing.assert_close(sample_points(ramp[0], places), places)


def test_coordinates_stay_precise_on_a_long_axis_and_in_half_precision():
    ramp = torch.arange(513.0).view(1, 1, 513, 1, 1)
    places = torch.tensor([[500.123, 0.0, 0.0], [511.875, 0.0, 0.0]])
    torch.testing.assert_close(sample_points(ramp[0], places)[:, 0], places[:, 0], atol=1e-4, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(sample_points(ramp[0], places)[:, 0], places[:, 0], atol=1e-4, rtol=0)


def test_dtypes():
    places = identity_coordinates((3, 4, 5))
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.bfloat16),
        (torch.int16, torch.float32),
    ):
        assert sample(torch.ones(1, 1, 3, 4, 5, dtype=dtype), places).dtype == expected


def test_a_batch_of_one_is_shared():
    volume, places = torch.rand(3, 2, 4, 5, 6), torch.rand(1, 3, 2, 2, 2) * 3
    shared = sample(volume, places)
    for b in range(3):
        torch.testing.assert_close(shared[b], sample(volume[b : b + 1], places)[0])
    with pytest.raises(ValueError, match="batch"):
        sample(volume, places.expand(2, -1, -1, -1, -1))
    with pytest.raises(ValueError, match="coordinates"):
        sample(volume, torch.rand(1, 2, 2, 2, 2))


def test_gradients_match_finite_differences():
    volume = torch.rand(1, 2, 3, 4, 1, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(1, 3, 2, 2, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p: sample(v, p, padding="zeros"), (volume, places), atol=1e-5)


def test_labels_are_the_argmax_of_one_hot_maps():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.choice([0, 3, 17, 2035], size=(6, 7, 8)).astype(np.int32))
    places = torch.from_numpy(rng.uniform(0, 1, (1, 3, 9, 9, 9)).astype(np.float32)) * torch.tensor([5, 6, 7.0]).view(
        1, 3, 1, 1, 1
    )
    values = labels.unique()
    maps = torch.stack([(labels == value).float() for value in values])[None]
    expected = values[sample(maps, places, padding="border")[0].argmax(dim=0)]
    found = sample_labels(labels, places)
    assert found.dtype == torch.int32
    assert torch.equal(found, expected)
    nearest = sample(labels[None, None].float(), places, "nearest", "border")[0, 0]
    assert torch.equal(sample_labels(labels, places, majority=False).float(), nearest)


def test_rows_are_read_as_volumes_are() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 7, 4), (1, 6, 3)):
        volume = torch.rand((1, 6, *shape), generator=generator)
        voxels = torch.rand((3, 400), generator=generator) * (torch.tensor(shape)[:, None] + 2) - 1.5
        expected = sample_points(volume[0], voxels.T, padding="border")
        found = read_rows(FeatureRows.of(volume), voxels)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.6, 2.0, 5.0])
def test_wider_voxels_keep_a_ramp(zoom: float) -> None:
    """In both directions, away from the ends; both kinds of voxel are counted from the common centre."""
    n = 60
    own = (np.arange(n) - (n - 1) / 2) * zoom
    averages, back = averaging_matrix(n, zoom, 2.0).numpy(), interpolation_matrix(n, zoom, 2.0).numpy()
    count = len(averages)
    assert count == int(np.ceil(n * zoom / 2)) and averages.shape == back.T.shape
    wide = (np.arange(count) - (count - 1) / 2) * 2
    inside = np.abs(wide) < own[-1] - 1
    np.testing.assert_allclose((averages @ own)[inside], wide[inside], atol=1e-3)
    seen = np.abs(own) <= wide[-1]
    np.testing.assert_allclose((back @ wide)[seen], own[seen], atol=1e-3)
    np.testing.assert_allclose(back.sum(axis=1), 1, atol=1e-5)


def test_a_wider_voxel_is_the_mean_of_what_lies_in_it() -> None:
    """By hand: voxels of 1 mm at -1.5, -0.5, 0.5, 1.5; the wide voxel at -1 is read at -1.75, -1.25, -0.75 and -0.25,
    where the four have the weights 3/4; 3/4, 1/4; 1/4, 3/4; and 3/4, 1/4 (of the second and third); half a millimetre
    outside counts as 0."""
    averages = averaging_matrix(4, 1.0, 2.0).numpy()
    np.testing.assert_allclose(averages[0], [1.75 / 4, 1.75 / 4, 0.25 / 4, 0], atol=1e-6)
    np.testing.assert_allclose(averages[1], averages[0][::-1], atol=1e-6)


def test_matrices_along_axes_are_scipys_zoom_of_each_axis():
    """Linear interpolation at the same points, by another program."""
    wide = np.random.default_rng(0).normal(size=(6, 5, 7)).astype(np.float32)
    matrices = [interpolation_matrix(2 * n, 1.0, 2.0) for n in wide.shape]
    found = along_axes(torch.from_numpy(wide), matrices).numpy()
    places = np.indices(found.shape) / 2 - 0.25
    np.testing.assert_allclose(found, ndimage.map_coordinates(wide, places, order=1, mode="nearest"), atol=1e-5)
