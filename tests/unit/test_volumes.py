"""Volumes against numbers worked out by hand."""

from __future__ import annotations

import torch

from uresnet.evaluation.volumes import structure_volumes, volumes_table
from uresnet.image import LabelMap
from uresnet.labels import label_scheme
from uresnet.spaces import Grid

TISSUE = label_scheme("tissue3")


def test_volumes_count_voxels_of_any_size(grid: Grid) -> None:
    data = torch.zeros(grid.shape, dtype=torch.int16)
    data[0, :3, 0] = 2
    data[1, 0, :2] = 4
    data[2, 2, 2] = 77  # known to FreeSurfer, not to the scheme
    sides = [sum(x * x for x in column) ** 0.5 for column in grid.voxel_to_world[:3, :3].T]
    voxel = sides[0] * sides[1] * sides[2]
    found = structure_volumes(LabelMap(data, grid), TISSUE)
    assert set(found) == {2, 3, 4}
    assert abs(found[2] - 3 * voxel) < 1e-6 and found[3] == 0 and abs(found[4] - 2 * voxel) < 1e-6


def test_the_table_is_tab_separated_with_a_row_per_structure() -> None:
    text = volumes_table(TISSUE, {"moving": {2: 1.25, 3: 0.0, 4: 7.0}, "fixed": {2: 3.0, 3: 2.0, 4: 1.0}})
    rows = [line.split("\t") for line in text.splitlines()]
    assert rows[0] == ["index", "name", "moving_mm3", "fixed_mm3"]
    assert rows[1] == ["2", "Cerebral-White-Matter", "1.2", "3.0"]
    assert [row[0] for row in rows[1:]] == ["2", "3", "4"]
    assert text.endswith("\n")
