"""Volumes against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.core.labels import label_scheme
from uresnet.measures.intracranial import _ATLAS, _ATLAS_MM3, intracranial_volume
from uresnet.measures.volumes import structure_volumes, volumes_sidecar, volumes_table

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
    assert rows[0] == ["index", "name", "moving_mm3", "fixed_mm3", "moving_predicted_dice", "fixed_predicted_dice"]
    assert rows[1] == ["2", "Cerebral-White-Matter", "1.2", "3.0", "n/a", "n/a"]
    assert [row[0] for row in rows[1:]] == ["2", "3", "4"]
    assert text.endswith("\n")


def test_rows_without_an_index_follow_where_there_is_a_value() -> None:
    volumes = {"moving": {2: 1.0, 3: 0.0, 4: 0.0}, "fixed": {2: 1.0, 3: 0.0, 4: 0.0}}
    text = volumes_table(TISSUE, volumes, {"moving": 5.0, "fixed": 6.0}, {"moving": None, "fixed": 7.25})
    assert [line.split("\t") for line in text.splitlines()[-2:]] == [
        ["n/a", "Brain-Mask", "5.0", "6.0", "n/a", "n/a"],
        ["n/a", "Estimated-Total-Intracranial", "n/a", "7.2", "n/a", "n/a"],
    ]
    assert "Intracranial" not in volumes_table(TISSUE, volumes, {"moving": 5.0, "fixed": 6.0}, {"moving": None})


def test_rows_of_abnormal_tissue_say_whether_it_was_looked_for() -> None:
    healthy = {structure.id: 10.0 for structure in label_scheme("freesurfer32").classes}
    for contrast, found, expected in (
        (None, {}, ["n/a", "n/a", "n/a"]),
        (None, {25: 3.0, 57: 0.0, 77: 0.0}, ["3.0", "n/a", "n/a"]),  # somebody has drawn it
        ("T1", {}, ["0.0", "0.0", "n/a"]),
        ("T1", {25: 0.0, 57: 4.0, 77: 0.0}, ["0.0", "4.0", "n/a"]),
        ("unknown", {}, ["0.0", "0.0", "n/a"]),
        ("FLAIR", {}, ["0.0", "0.0", "0.0"]),
        ("FLAIR", {25: 0.0, 57: 0.0, 77: 5.0}, ["0.0", "0.0", "5.0"]),
    ):
        scheme = label_scheme("freesurfer35" if found else "freesurfer32")
        text = volumes_table(scheme, {"image": healthy | found}, contrasts={"image": contrast})
        rows = {line.split("	")[0]: line.split("	") for line in text.splitlines()}
        assert len(rows) == 1 + 32 + 3
        assert [rows[str(i)][2] for i in (25, 57, 77)] == expected, contrast
    pair = volumes_table(
        label_scheme("freesurfer35"),
        {"moving": healthy, "fixed": healthy | {25: 0.0, 57: 0.0, 77: 5.0}},
        contrasts={"moving": "T1", "fixed": "FLAIR"},
    )
    assert "77	WM-hypointensities	n/a	5.0	" in pair
    described = volumes_sidecar(["image"], "tiny")["image_mm3"]["Description"]
    assert "n/a that it was not looked for" in described
    # What a model has as a class of its own is what it sees.
    own = volumes_table(label_scheme("tissue3_abnormal"), {"image": {2: 1.0, 3: 1.0, 4: 1.0, 25: 0.0}})
    assert own.splitlines()[-1].split("	")[2] == "0.0"


def test_a_predicted_dice_stands_beside_the_volume_of_its_image() -> None:
    volumes = {"moving": {2: 1.0, 3: 0.0, 4: 0.0}, "fixed": {2: 1.0, 3: 0.0, 4: 0.0}}
    predicted = {"fixed": {"Cerebral-White-Matter": 0.9341}, "moving": None}
    text = volumes_table(TISSUE, volumes, {"moving": 5.0, "fixed": 6.0}, predicted=predicted)
    columns, *rows = [line.split("\t") for line in text.splitlines()]
    assert [row[columns.index("fixed_predicted_dice")] for row in rows] == ["0.934", "n/a", "n/a", "n/a"]
    assert {row[columns.index("moving_predicted_dice")] for row in rows} == {"n/a"}
    described = volumes_sidecar(list(volumes), "tiny")
    assert list(described) == columns  # every column is explained
    assert "no measurement" in described["fixed_predicted_dice"]["Description"]


def test_the_head_grows_with_the_determinant_wherever_it_lies(grid: Grid) -> None:
    """The atlas's centroids, stretched, as single voxels of a fine grid that is turned as ``grid`` is."""
    turn = np.linalg.qr(grid.voxel_to_world[:3, :3])[0]
    stretch = np.diag([1.1, 0.95, 1.2])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ np.diag([1.0, 0.8, 1.25]), (40, -30, 20)
    fine = Grid((200, 260, 160), matrix)
    points = np.array(list(_ATLAS.values())) @ stretch + fine.centre_world
    voxels = np.rint(fine.points_to_voxel(points)).astype(int)
    data = torch.zeros(fine.shape, dtype=torch.int16)
    for one, (i, j, k) in zip(_ATLAS, voxels, strict=True):
        data[i, j, k] = one
    found = intracranial_volume(LabelMap(data, fine))
    assert found == pytest.approx(_ATLAS_MM3 * np.linalg.det(stretch), rel=0.02)


def test_few_structures_say_nothing_of_the_head(grid: Grid) -> None:
    assert intracranial_volume(LabelMap(torch.full(grid.shape, 2, dtype=torch.int16), grid)) is None
