"""Where a brain is cut off by its field of view, on grids of every orientation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brains import COARSE, FIELDS_OF_VIEW, RADII_MM, brain_on
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import InputWarning
from uresnet.preprocess import conform, conform_pair
from uresnet.preprocess.field_of_view import beyond_cuts, find_cuts

FACES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}


def ellipsoid(grid: Grid) -> np.ndarray:
    return brain_on(grid) > 0


def without_top(brain: np.ndarray, grid: Grid, mm: float) -> tuple[np.ndarray, int, slice]:
    """The brain without what lies more than ``mm`` above the world's origin, along the axis closest to the S axis."""
    axis = next(n for n, code in enumerate(grid.axis_codes) if code in "SI")
    height = (grid.voxel_to_world[2, axis] * np.arange(grid.shape[axis])) + grid.points_to_world(
        [(n - 1) / 2 if a != axis else 0 for a, n in enumerate(grid.shape)]
    )[2]
    kept = np.flatnonzero(height < mm)
    cut = brain.copy()
    outside = [slice(None)] * 3
    outside[axis] = slice(kept[-1] + 1, None) if kept[0] == 0 else slice(0, kept[0])
    cut[tuple(outside)] = False
    return cut, axis, outside[axis]


@pytest.mark.parametrize("name", FIELDS_OF_VIEW)
def test_a_whole_brain_is_not_cut(name: str) -> None:
    grid = FIELDS_OF_VIEW[name]
    assert find_cuts(ellipsoid(grid), grid) == []


@pytest.mark.parametrize("name", FIELDS_OF_VIEW)
def test_a_missing_top_is_found_and_what_lies_beyond(name: str) -> None:
    grid = FIELDS_OF_VIEW[name]
    brain, axis, outside = without_top(ellipsoid(grid), grid, 25.0)
    (cut,) = find_cuts(brain, grid)
    assert cut.face == "top" and cut.axis == axis
    beyond = beyond_cuts([cut], grid, grid)
    expected = np.zeros(grid.shape, dtype=bool)
    index = [slice(None)] * 3
    index[axis] = outside
    expected[tuple(index)] = True
    assert beyond is not None and np.array_equal(beyond.numpy(), expected)


def test_what_lies_beyond_is_the_same_on_another_grid() -> None:
    grid = FIELDS_OF_VIEW["RAS"]
    brain, _, _ = without_top(ellipsoid(grid), grid, 25.0)
    cuts = find_cuts(brain, grid)
    other = Grid.centred((40, 44, 52), (4.0, 4.0, 4.0), "LIA", (0.0, 0.0, 0.0))
    beyond = beyond_cuts(cuts, grid, other)
    voxels = np.stack(np.meshgrid(*map(np.arange, other.shape), indexing="ij"), axis=-1)
    height = other.points_to_world(voxels)[..., 2]
    edge = grid.points_to_world([0, 0, cuts[0].index + 0.5])[2]
    assert beyond is not None and np.array_equal(beyond.numpy(), height > edge)


def test_nothing_lies_beyond_a_whole_brain() -> None:
    assert beyond_cuts([], FIELDS_OF_VIEW["RAS"], FIELDS_OF_VIEW["RAS"]) is None


def test_conforming_tells_of_a_cut_brain_and_marks_what_is_unseen() -> None:
    grid = FIELDS_OF_VIEW["LAS"]
    values = brain_on(grid)
    brain = without_top(values > 0, grid, 25.0)[0]
    cut = Image(torch.from_numpy(np.where(brain, values, 0)), grid)
    with pytest.warns(
        InputWarning, match=r"part of the brain only .*cut off at the top\): structures there are incomp"
    ):
        conformed = conform(cut)
    mask = LabelMap(torch.from_numpy(brain.astype(np.uint8)), grid)
    with pytest.warns(InputWarning, match=r"cut off at the top\): nothing is matched to what is missing"):
        conform_pair((cut, mask), (cut, mask), COARSE)
    assert conformed.unseen is not None and conformed.unseen.shape == conformed.brain_mask.shape
    assert not (conformed.unseen & conformed.brain_mask).any()
    assert conform(Image(torch.from_numpy(values), grid)).unseen is None


@pytest.mark.parametrize("thickness", [1.0, 3.0, 6.0])
def test_thick_outer_slices_of_a_whole_brain_are_not_a_cut(thickness: float) -> None:
    shape = (150, 180, int(150 / thickness))
    grid = Grid.centred(shape, (1.0, 1.0, thickness), "RAS", (0.0, 0.0, thickness / 3))
    brain = ellipsoid(grid)
    assert find_cuts(brain, grid) == []
    middle = shape[2] // 2
    brain[..., middle + 2 :] = False
    assert [cut.face for cut in find_cuts(brain, grid)] == ["top"]
    assert RADII_MM[2] > 2 * thickness
