"""Pictures hang right and are never stretched, whatever way an image is stored."""

from __future__ import annotations

import numpy as np
import pytest

from report_results import MARK, RADII, head
from spatial_cases import ORIENTATIONS, grid_of
from uresnet.report.slices import MARGIN_MM, PLANES, cut, cut_labels, foreground_box, plane_grid, view_of

STORED = {"isotropic": ((60, 66, 56), (2.0, 2.0, 2.0)), "anisotropic": ((56, 60, 34), (2.0, 2.1, 3.5))}
# Where the marker (left, front, top of the middle) is in each picture: (right of the middle, below it).
EXPECTED = {"axial": (-MARK[0], -MARK[1]), "coronal": (-MARK[0], -MARK[2]), "sagittal": (-MARK[1], -MARK[2])}


def big_enough(orientation: str, kind: str):
    _, zooms = STORED[kind]
    # Long enough along every array axis for the longest axis of the head, however the axes lie.
    i, j, k = (int(130 / z) for z in zooms)
    return grid_of(orientation, shape=(i, j, k), zooms=zooms)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", STORED)
def test_the_marker_is_where_a_radiologist_looks_for_it(orientation: str, kind: str) -> None:
    image = head(big_enough(orientation, kind))[0]
    view = view_of(image)
    for plane in PLANES:
        grid = plane_grid(plane, view, slices=61)
        pictures = cut(image, grid)
        slices, rows, columns = np.nonzero(pictures > 140)
        assert len(rows) > 20
        right = (columns.mean() - (pictures.shape[2] - 1) / 2) * view.pixel_mm
        down = (rows.mean() - (pictures.shape[1] - 1) / 2) * view.pixel_mm
        assert (right, down) == pytest.approx(EXPECTED[plane.name], abs=2.0)
        through = (slices.mean() - 30) * grid.zooms[2]
        assert through == pytest.approx(
            {"axial": MARK[2], "coronal": MARK[1], "sagittal": MARK[0]}[plane.name], abs=2.5
        )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_egg_has_the_same_extent_in_every_picture(orientation: str) -> None:
    labels = head(big_enough(orientation, "anisotropic"))
    view = view_of(labels[0])
    sides = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
    for plane in PLANES:
        picture = cut_labels(labels[2], plane_grid(plane, view, slices=1))[0] > 0
        across = np.ptp(np.flatnonzero(picture.any(axis=0))) * view.pixel_mm
        down = np.ptp(np.flatnonzero(picture.any(axis=1))) * view.pixel_mm
        assert (across, down) == pytest.approx([2 * RADII[axis] for axis in sides[plane.name]], abs=4.5)


def test_the_view_holds_the_whole_head_and_a_margin() -> None:
    image = head(grid_of("LAS", shape=(70, 70, 50), zooms=(2.0, 2.0, 2.5)))[0]
    low, high = foreground_box(image)
    # From the first voxel's centre to the last one's: up to a voxel less at either end.
    assert (np.abs(high - low - 2 * np.array(RADII)) <= 2 * np.array([2.0, 2.0, 2.5])).all()
    assert view_of(image).extent_mm == pytest.approx(high - low + 2 * MARGIN_MM)


def test_an_empty_image_shows_its_whole_grid() -> None:
    image = head(grid_of("LAS"))[0]
    dark = type(image)(image.data * 0, image.grid)
    low, high = foreground_box(dark)
    assert low == pytest.approx(image.grid.corners_world.min(axis=0))
    assert high == pytest.approx(image.grid.corners_world.max(axis=0))
