"""Label maps for synthesis: the brain and its inner fluid alone, conformed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from label_maps import write_map
from uresnet.config import ConformSpec
from uresnet.errors import UserError
from uresnet.training.examples.label_maps import read_label_maps, read_shapes


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
