"""Outlines lie where the labels end, and lines of equal value where the value is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from uresnet.core.labels import SCHEMES
from uresnet.report.contours import SUBPIXELS, area_path, level_paths, path_data, structure_paths


def points_of(path: str) -> np.ndarray:
    """Corners of one sub-path, pixels; read by hand so that the writer is held to SVG's grammar."""
    start, steps = re.fullmatch(r"M(-?\d+ ?-?\d+)l([-\d ]+)z?", path).groups()
    numbers = [int(n) for n in re.findall(r"-?\d+", start)]
    moves = np.array([int(n) for n in re.findall(r"-?\d+", steps)]).reshape(-1, 2)
    return np.vstack([numbers, np.array(numbers) + np.cumsum(moves, axis=0)]) / SUBPIXELS


def area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def test_a_disc_is_outlined_at_its_edge() -> None:
    row, column = np.mgrid[:60, :80]
    labels = np.where((row - 25) ** 2 + (column - 50) ** 2 < 15**2, 4, 0)
    paths = structure_paths(labels, SCHEMES["tissue3"])
    assert set(paths) == {4}
    points = points_of(paths[4])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    assert middle == pytest.approx([50.5, 25.5], abs=0.2)  # x, y from the picture's corner
    assert area(points) == pytest.approx(np.pi * 15**2, rel=0.03)


def test_a_hole_is_a_path_of_its_own() -> None:
    labels = np.zeros((40, 40), int)
    labels[5:35, 5:35] = 3
    labels[15:25, 15:25] = 4
    paths = structure_paths(labels, SCHEMES["tissue3"])
    assert paths[3].count("M") == 2
    assert paths[4].count("M") == 1


def test_a_structure_at_the_edge_of_the_picture_is_closed() -> None:
    labels = np.zeros((20, 20), int)
    labels[:6, :] = 2
    path = structure_paths(labels, SCHEMES["tissue3"])[2]
    assert path.endswith("z")
    assert area(points_of(path)) == pytest.approx(6 * 20, rel=0.06)


def test_nothing_gives_nothing() -> None:
    assert structure_paths(np.zeros((10, 10), int), SCHEMES["tissue3"]) == {}
    assert path_data([]) == ""


def test_lines_of_equal_value_lie_on_the_value() -> None:
    values = np.mgrid[:30, :40][1].astype(float) * 0.5
    path = level_paths(values, [5.0, 12.0])
    starts = [float(x) / SUBPIXELS for x in re.findall(r"M(\d+) ", path)]
    assert sorted(starts) == pytest.approx([10.5, 24.5])


def test_an_area_is_every_pixel_of_a_mask_and_no_other() -> None:
    mask = np.random.default_rng(3).random((7, 9)) < 0.4
    mask[0, 0] = mask[6, 8] = True  # corners too
    drawn = np.zeros((7, 9), dtype=int)
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v10h-\3z", area_path(mask)):
        column, row, across = (int(n) // SUBPIXELS for n in (x, y, width))
        drawn[row, column : column + across] += 1
    np.testing.assert_array_equal(drawn, mask)
    assert area_path(np.zeros((3, 3), dtype=bool)) == ""
