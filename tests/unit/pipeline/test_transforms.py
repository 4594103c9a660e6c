"""Transforms in Python, against SimpleITK and closed forms, on images that other libraries hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import uresnet
from command import FIXED, MOVING, TRANSFORM, write_transform_and_pair
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("apply")
    write_transform_and_pair(folder)
    return folder


def test_apply_is_what_simpleitk_does(folder: Path) -> None:
    moving, fixed = sitk.ReadImage(str(folder / "moving.nii.gz")), nib.load(folder / "fixed.nii.gz")
    like = sitk.ReadImage(str(folder / "fixed.nii.gz"))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(moving, like, sitk.ReadTransform(str(folder / "t.h5")), sitk.sitkLinear, 0.0)
    ).T
    for transform in (folder / "t.h5", TRANSFORM, [TRANSFORM.parts[0], TRANSFORM.parts[1]]):
        found = uresnet.apply(transform, moving, fixed, interpolation="linear", fill=0)
        assert isinstance(found, Image) and found.grid.same_as(FIXED)
        assert np.mean(np.abs(found.data.numpy() - expected) > 1e-2) < 2e-3


def test_labels_in_memory_stay_labels(folder: Path) -> None:
    labels = LabelMap((torch.arange(MOVING.shape[0]).view(-1, 1, 1) // 6 * 7).expand(MOVING.shape).short(), MOVING)
    found = uresnet.apply(folder / "t.h5", labels, folder / "fixed.nii.gz")
    assert isinstance(found, LabelMap) and set(found.data.unique().tolist()) <= {0, 7, 14, 21}


def test_points_are_numpy(folder: Path) -> None:
    transform = uresnet.read_transform(folder / "t.h5")
    points = FIXED.points_to_world(np.array([[5.0, 6.0, 7.0], [9.5, 8.0, 4.0]]))
    there = sitk.ReadTransform(str(folder / "t.h5"))
    expected = [np.array([-1, -1, 1]) * there.TransformPoint((p * [-1, -1, 1]).tolist()) for p in points]
    np.testing.assert_allclose(transform.apply(points), expected, atol=1e-4)
    np.testing.assert_allclose(transform.apply(points.tolist()), expected, atol=1e-4)
    assert transform.apply(points[0]).shape == (3,)


@pytest.mark.parametrize("points", [np.zeros((4, 2)), "a", [["x", 1, 2]], 3.0, None])
def test_what_is_no_point_is_refused(points: Any) -> None:
    with pytest.raises(UserError, match=r"transform.apply: points is .*; give \(N, 3\)"):
        TRANSFORM.apply(points)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, "moving.nii.gz", "fixed.nii.gz"), "uresnet.apply: transform is of type int|is 3; give"),
        (([], "moving.nii.gz", "fixed.nii.gz"), "uresnet.apply: transform is an empty list"),
        (("t.h5", 3, "fixed.nii.gz"), "uresnet.apply: moving is of type int; give"),
        (("t.h5", "moving.nii.gz", None), "uresnet.apply: fixed is of type NoneType; give"),
        (("gone.h5", "moving.nii.gz", "fixed.nii.gz"), "gone.h5 does not exist"),
    ],
)
def test_mistakes_name_the_function(
    arguments: tuple, sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=sentence):
        uresnet.apply(*arguments)


def test_a_matrix_of_a_program_needs_its_name_and_images(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_text("1 0 0 4\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", encoding="utf-8")
    with pytest.raises(UserError, match='format="greedy"'):
        uresnet.read_transform(path)
    assert uresnet.read_transform(path, format="greedy").apply([0.0, 0, 0]).tolist() == [4, 0, 0]
    fixed, moving = nib.load(folder / "fixed.nii.gz"), sitk.ReadImage(str(folder / "moving.nii.gz"))
    assert uresnet.read_transform(path, format="fsl", fixed=fixed, moving=moving).parts
    with pytest.raises(UserError, match=r"uresnet.read_transform: path is 3"):
        uresnet.read_transform(3)  # type: ignore[arg-type]
