"""Images of other libraries: each library reads one file its own way, and all have to mean the same voxels in the world
as nibabel, whose affine is RAS+."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import uresnet.io.in_memory as in_memory_module
from brains import write_nifti
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io.in_memory import check_source, image_from, labels_from, to_nibabel, to_sitk


def from_ants(path: Path) -> Any:
    return pytest.importorskip("ants").image_read(str(path))


def from_torchio(path: Path) -> Any:
    return pytest.importorskip("torchio").ScalarImage(path)


def from_torchio_labels(path: Path) -> Any:
    image = pytest.importorskip("torchio").LabelMap(path)
    image.load()
    return image


def from_monai(path: Path) -> Any:
    transforms = pytest.importorskip("monai.transforms")
    return transforms.LoadImage(image_only=True, reader="NibabelReader")(path)


def from_monai_channels(path: Path) -> Any:
    transforms = pytest.importorskip("monai.transforms")
    return transforms.LoadImage(image_only=True, reader="NibabelReader", ensure_channel_first=True)(path)


def from_monai_in_lps(path: Path) -> Any:
    data = pytest.importorskip("monai.data")
    image = nib.Nifti1Image.from_filename(path)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return data.MetaTensor(torch.tensor(image.get_fdata())[None], torch.tensor(lps), {"space": "LPS"})


def read(path: Path) -> Any:
    return nib.load(path)


def in_memory(path: Path) -> Any:
    image = nib.Nifti1Image.from_filename(path)
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine)


LIBRARIES: dict[str, Callable[[Path], Any]] = {
    "nibabel": read,
    "nibabel, in memory": in_memory,
    "nibabel, MGH": lambda path: nib.MGHImage(read(path).get_fdata().astype(np.float32), read(path).affine),
    "nibabel, generic": lambda path: nib.spatialimages.SpatialImage(read(path).get_fdata(), read(path).affine),
    "array": lambda path: (read(path).get_fdata(), read(path).affine),
    "tensor": lambda path: [torch.tensor(read(path).get_fdata()), read(path).affine.tolist()],
    "SimpleITK": lambda path: sitk.ReadImage(str(path)),
    "ANTsPy": from_ants,
    "TorchIO": from_torchio,
    "TorchIO labels": from_torchio_labels,
    "MONAI": from_monai,
    "MONAI, channels": from_monai_channels,
    "MONAI, LPS": from_monai_in_lps,
    "path": lambda path: path,
}


@pytest.fixture
def written(grid: Grid, tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 200, grid.shape).astype(np.int16)
    return write_nifti(values, grid, tmp_path / "x.nii.gz")


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_means_the_same_voxels(library: str, written: Path) -> None:
    source = LIBRARIES[library](written)
    check_source("f", "moving", source)
    truth = nib.Nifti1Image.from_filename(written)
    for found in (image_from(source, "moving"), labels_from(source, "mask")):
        np.testing.assert_array_equal(found.data.numpy(), truth.get_fdata())
        np.testing.assert_allclose(found.grid.voxel_to_world, truth.affine, atol=2e-4)  # float32 headers


def test_what_is_given_back_lies_where_it_was(written: Path) -> None:
    truth = nib.Nifti1Image.from_filename(written)
    for image in (image_from(written), labels_from(written)):
        ours = to_nibabel(image)
        np.testing.assert_array_equal(ours.get_fdata(), truth.get_fdata())
        np.testing.assert_allclose(ours.affine, truth.affine, atol=1e-5)
        mine, theirs = to_sitk(image), sitk.ReadImage(str(written))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mine), sitk.GetArrayFromImage(theirs))
        corner = [n - 1 for n in theirs.GetSize()]
        for voxel in ([0, 0, 0], corner):
            apart = np.subtract(mine.TransformIndexToPhysicalPoint(voxel), theirs.TransformIndexToPhysicalPoint(voxel))
            assert np.abs(apart).max() < 1e-4


def test_only_a_file_that_is_still_read_is_recorded(written: Path) -> None:
    assert image_from(read(written)).path == str(written)
    loaded = in_memory(written)
    assert image_from(loaded).path == "" and image_from(loaded, "moving").name == "the moving image"


def test_a_changed_affine_is_the_one_that_counts(written: Path) -> None:
    image = read(written)
    image.affine[:3, 3] += 7
    np.testing.assert_allclose(image_from(image).grid.voxel_to_world[:3, 3], image.affine[:3, 3])


def test_values_are_copied(grid: Grid) -> None:
    values = np.ones(grid.shape, np.float32)
    image = image_from((values, grid.voxel_to_world))
    values[:] = 5
    assert float(image.data.max()) == 1


def test_numbers_that_are_none_are_cleaned_and_said(grid: Grid) -> None:
    values = np.ones(grid.shape)
    values[0, 0, 0] = np.nan
    with pytest.warns(UserWarning, match="the fixed image has 1 voxel that is not a number"):
        image = image_from((values, grid.voxel_to_world), "fixed")
    assert image.invalid is not None and bool(image.invalid[0, 0, 0])


@pytest.mark.parametrize(
    "source",
    [3, None, np.ones((4, 5, 6)), torch.ones(4, 5, 6), (np.eye(4), np.ones((4, 5, 6))), ["a", "b"], {}, b"x.nii.gz"],
    ids=lambda source: type(source).__name__,
)
def test_what_is_no_image_is_refused_with_the_names(source: Any) -> None:
    with pytest.raises(UserError, match=r"^uresnet.register: moving is of type .*; give a path, .*affine"):
        check_source("uresnet.register", "moving", source)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ((np.ones((4, 5, 6, 2)), np.eye(4)), "2 volumes"),
        ((np.ones((4, 5, 6)), np.zeros((4, 4))), "singular"),
        ((np.ones((4, 5, 6), complex), np.eye(4)), "complex"),
        (sitk.Image([4, 5, 6], sitk.sitkVectorFloat32, 2), "several values per voxel"),
        (sitk.Image([4, 5], sitk.sitkFloat32), "dimensions"),
        (nib.Nifti1Image(np.ones((4, 5, 6, 3)), np.eye(4)), "3 volumes"),
    ],
)
def test_images_that_cannot_be_used(source: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=f"the moving image .*{sentence}"):
        image_from(source, "moving")


def test_masks_hold_whole_numbers(grid: Grid) -> None:
    with pytest.raises(UserError, match=r"the moving mask holds 0.5, not only whole numbers"):
        labels_from((np.full(grid.shape, 0.5), grid.voxel_to_world), "moving mask")
    drawn = labels_from((np.ones(grid.shape, bool), grid.voxel_to_world))
    assert bool(drawn.mask.all())
    assert labels_from(drawn) is drawn
    assert isinstance(labels_from(Image(torch.ones(grid.shape), grid)), LabelMap)


def test_no_library_is_imported_for_a_look() -> None:
    tree = ast.parse(Path(in_memory_module.__file__).read_text(encoding="utf-8"))
    named = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert named and not [line for line in named if re.search(r"import (SimpleITK|ants|torchio|monai)", line)]
