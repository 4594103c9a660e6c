"""Label maps for synthesis: the brain and its inner fluid alone, conformed; and whole heads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from grids import GRIDS
from label_maps import write_map
from uresnet.config import ConformSpec
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.training.data.label_maps import OUTSIDE, read_head, read_label_maps, read_shapes


def test_label_maps_keep_the_brain_and_its_inner_fluid_only(tmp_path: Path) -> None:
    ids = write_map(tmp_path / "a.nii.gz")
    maps = read_label_maps(tmp_path, ConformSpec(shape=(48, 48, 48), axis_codes=("R", "A", "S"), centre="box"))
    assert maps.shape == (1, 1, 48, 48, 48)
    assert set(maps.unique().tolist()) == {0, 2, 24, 25}
    assert int((maps == 2).sum()) == int((ids == 2).sum())
    away = np.sqrt(((np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij"), -1) - 23.5) ** 2).sum(-1))
    assert int((maps == 24).sum()) < int(((ids == 24) & (away < 14)).sum())


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no label maps"):
        read_label_maps(tmp_path, ConformSpec())


def test_shapes_are_cut_out_and_have_voxels_of_1_mm(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 20), dtype=np.uint8)
    mask[3:7, 5:15, 8:11] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([-2.0, 1, 1, 1])), tmp_path / "a.nii.gz")
    (shape,) = read_shapes(tmp_path)
    assert tuple(shape.shape) == (8, 10, 3) and bool((shape == 1).all())


def test_folders_without_masks_and_empty_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no masks .* check contrasts\.stroke_masks"):
        read_shapes(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match=r"a\.nii\.gz is empty"):
        read_shapes(tmp_path)


def test_a_head_is_cut_out_and_its_brain_reaches_two_millimetres_beyond_tissue(tmp_path: Path) -> None:
    write_map(tmp_path / "a.nii.gz")
    head = read_head(tmp_path / "a.nii.gz")
    assert head.ids.shape == head.brain.shape == head.grid.shape == (44, 44, 44)
    assert set(np.unique(head.ids)) == {0, 2, 24, 25, 207}
    away = np.sqrt(((np.stack(np.meshgrid(*[np.arange(44)] * 3, indexing="ij"), -1) - 21.5) ** 2).sum(-1))
    # Closing fills the fluid inside; a voxel within 2 mm of one whose centre is less than 12 mm away is brain.
    assert head.brain[away < 13].all() and not head.brain[away >= 14].any()


def test_fluid_between_folds_is_brain_and_fluid_in_wide_gaps_is_not(tmp_path: Path) -> None:
    ids = np.full((60, 40, 40), 507, dtype=np.int16)
    ids[2:58, 4:36, 4:36] = 24
    for start, end in ((12, 18), (24, 30), (46, 52)):  # gaps of 6 and of 16 voxels between slabs of cortex
        ids[start:end, 8:32, 8:32] = 3
    nib.save(nib.Nifti1Image(ids, np.eye(4)), tmp_path / "a.nii.gz")
    brain = read_head(tmp_path / "a.nii.gz").brain[:, 20, 20]
    assert brain.nonzero()[0].tolist() == [*range(10, 32), *range(44, 54)]


@pytest.mark.parametrize("name", GRIDS)
def test_heads_lie_where_they_lay_in_upright_axes_and_voxels_of_1_mm(name: str, tmp_path: Path) -> None:
    given = GRIDS[name]
    grid = Grid(tuple(3 * n for n in given.shape), given.voxel_to_world)  # type: ignore[arg-type]
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    where = grid.points_to_world(voxels) - grid.centre_world
    # A head with one lobe each to the right, the front and the top, as its own axes have them.
    axes = grid.reoriented("RAS").voxel_to_world[:3, :3]
    right, front, top = np.moveaxis(where @ (axes / np.linalg.norm(axes, axis=0)), -1, 0)
    far = np.sqrt(right**2 + front**2 + top**2)
    ids = np.select([far >= 11, right > 5, front > 5, top > 5], [0, 41, 3, 16], 507)
    nib.save(nib.Nifti1Image(ids.astype(np.int16), grid.voxel_to_world), tmp_path / "a.nii.gz")
    head = read_head(tmp_path / "a.nii.gz")
    assert head.grid.axis_codes == ("R", "A", "S") and np.allclose(head.grid.zooms, 1)
    middles = [np.argwhere(head.ids == i).mean(0) - np.argwhere(head.ids > 0).mean(0) for i in (41, 3, 16)]
    assert [int(np.argmax(middle)) for middle in middles] == [0, 1, 2] and min(m.max() for m in middles) > 3
    # Each voxel has the label of the voxel of the file in which it lies.
    back = grid.points_to_voxel(head.grid.points_to_world(np.argwhere(head.ids >= 0)))
    nearest = np.clip(np.floor(back + 0.5), 0, np.array(grid.shape) - 1).astype(int)
    expected = np.where(ids == 507, 207, ids)[tuple(nearest.T)]
    assert (expected == head.ids.ravel()).mean() > 0.97


def test_any_other_value_is_tissue_around_the_brain_and_parcels_are_cortex(tmp_path: Path) -> None:
    ids = np.full((24, 24, 24), 258, dtype=np.int16)
    ids[6:18, 6:18, 6:18] = 1030
    ids[11:13, 11:13, 11:13] = 253  # a part of the corpus callosum
    nib.save(nib.Nifti1Image(ids, np.eye(4)), tmp_path / "a.nii.gz")
    found = read_head(tmp_path / "a.nii.gz").ids
    assert set(np.unique(found)) - set(OUTSIDE) == {3, 253} and int(np.isin(found, (3, 253)).sum()) == 12**3
    assert read_head(tmp_path / "a.nii.gz").brain[6:18, 6:18, 6:18].all()


@pytest.mark.parametrize("value", [2, 507, 0])
def test_what_is_no_brain_inside_of_a_head_is_refused(value: int, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), value, dtype=np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="does not show a brain inside of a head; give label maps with the tissues"):
        read_head(tmp_path / "a.nii.gz")


def test_an_image_is_no_label_map(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(8**3, dtype=np.int16).reshape(8, 8, 8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="has 512 different values: it is an image, not a label map"):
        read_head(tmp_path / "a.nii.gz")
