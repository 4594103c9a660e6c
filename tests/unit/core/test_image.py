"""Images on grids, and probabilities on another grid against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from grids import GRIDS, turned
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap, ProbabilityMap


def random_probabilities(grid: Grid, classes: int = 4) -> ProbabilityMap:
    noise = np.random.default_rng(3).normal(size=(classes, *grid.shape))
    logits = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5))) * 30
    return ProbabilityMap(torch.softmax(logits, dim=0).float(), grid)


def by_scipy(probabilities: ProbabilityMap, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Class and the lead of the best over the second, from scipy and float64 world coordinates."""
    voxels = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1)
    where = np.moveaxis(probabilities.grid.points_to_voxel(target.points_to_world(voxels)), -1, 0)
    channels = [
        ndimage.map_coordinates(channel.double().numpy(), where, order=1, mode="grid-constant", cval=float(n == 0))
        for n, channel in enumerate(probabilities.data)
    ]
    ranked = np.sort(channels, axis=0)
    return np.argmax(channels, axis=0), ranked[-1] - ranked[-2]


@pytest.mark.parametrize("source", GRIDS)
def test_classes_on_another_grid_agree_with_scipy(source: str, grid: Grid) -> None:
    probabilities = random_probabilities(GRIDS[source])
    # Bring the target over the source: a turned, larger-voxel copy of the parametrised grid.
    near = turned(grid, (4, -9, 13)).rescaled(0.7)
    matrix = near.voxel_to_world.copy()
    matrix[:3, 3] += GRIDS[source].centre_world - near.centre_world + [2.0, -1.0, 0.5]
    target = Grid(near.shape, matrix)
    expected, lead = by_scipy(probabilities, target)
    got = probabilities.classes_on(target).numpy()
    assert len(np.unique(expected)) == 4
    np.testing.assert_array_equal(got[lead > 1e-4], expected[lead > 1e-4])
    assert (lead > 1e-4).mean() > 0.99


def test_classes_on_the_own_grid_are_the_argmax(grid: Grid) -> None:
    probabilities = random_probabilities(grid)
    assert torch.equal(probabilities.classes_on(grid).long(), probabilities.data.argmax(dim=0))


def test_outside_is_background_even_where_no_voxel_inside_is(grid: Grid) -> None:
    data = torch.zeros(3, *grid.shape)
    data[2] = 1
    everything = ProbabilityMap(data, grid)
    around = grid.subgrid((-4, -4, -4), [n + 8 for n in grid.shape])
    classes = everything.classes_on(around)
    inside = tuple(slice(4, 4 + n) for n in grid.shape)
    assert (classes[inside] == 2).all()
    assert int((classes == 2).sum()) == int(np.prod(grid.shape))
    assert (classes[:3] == 0).all()


def test_slabs_change_nothing(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = random_probabilities(grid)
    target = turned(grid, (10, 5, -8))
    whole = probabilities.classes_on(target)
    monkeypatch.setattr("uresnet.core.image.slabs", lambda shape, channels: [slice(n, n + 1) for n in range(shape[0])])
    assert torch.equal(probabilities.classes_on(target), whole)


def test_what_does_not_fit_is_refused(grid: Grid) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Image(torch.zeros(3, 4, 5), grid)
    with pytest.raises(ValueError, match="does not fit"):
        Image(torch.zeros(grid.shape), grid, invalid=torch.zeros(3, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not fit"):
        ProbabilityMap(torch.zeros(2, 3, 4, 5), grid)
    with pytest.raises(ValueError, match=r"\(C, I, J, K\)"):
        ProbabilityMap(torch.zeros(grid.shape), grid)
    with pytest.raises(ValueError, match="whole numbers"):
        LabelMap(torch.zeros(grid.shape), grid)


def test_images_are_float32_and_masks_are_where_labels_are(grid: Grid) -> None:
    assert Image(torch.zeros(grid.shape, dtype=torch.float64), grid).data.dtype == torch.float32
    labels = torch.zeros(grid.shape, dtype=torch.int16)
    labels[1, 2, 3], labels[4, 5, 6] = 41, -2
    assert int(LabelMap(labels, grid).mask.sum()) == 2


def test_numpy_sees_values_and_labels() -> None:
    grid = Grid.centred((3, 4, 5), (1, 1, 1), ("R", "A", "S"), (0, 0, 0))
    values, labels = torch.rand(3, 4, 5), torch.randint(0, 78, (3, 4, 5), dtype=torch.int16)
    image, label_map = Image(values, grid), LabelMap(labels, grid)
    assert np.array_equal(np.asarray(image), values.numpy()) and np.asarray(image).dtype == np.float32
    assert np.array_equal(np.asarray(label_map), labels.numpy()) and np.unique(label_map).size > 1
    assert np.asarray(image, np.float64).dtype == np.float64
    copy = np.array(label_map)
    copy[:] = 0
    assert np.array_equal(np.asarray(label_map), labels.numpy()) and labels.any()
