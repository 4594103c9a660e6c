from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from spatial_cases import LPS, ORIENTATIONS, grid_of, half_affine, known_affine, points_in, smooth_field
from transform_cases import FIXED, MOVING, sentence
from uresnet.errors import InputWarning, UserError
from uresnet.transform import Affine, Composite, DisplacementField
from uresnet.transform_files import (
    FileKind,
    convert_transform,
    parse_formats,
    read_transform,
    write_itk_affine,
    write_itk_composite,
    write_transform,
    write_warp,
)


def itk_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in (points * LPS).tolist()]) * LPS


def ours(transform, points: np.ndarray) -> np.ndarray:
    return transform.apply(torch.from_numpy(points)).numpy()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_is_written_is_read_back(orientation, tmp_path):
    grid = grid_of(orientation)
    half = half_affine()
    transform = Composite([half, smooth_field(grid), half])
    points = points_in(grid)
    for exact, tolerance in ((True, 1e-5), (False, 3e-5)):
        write_itk_composite(transform, tmp_path / "t.h5", exact)
        back = read_transform(tmp_path / "t.h5")
        assert isinstance(back.parts[1], DisplacementField)
        assert [type(part) for part in back.parts] == [type(part) for part in transform.parts]
        assert back.parts[1].grid.same_as(grid, 1e-9)
        np.testing.assert_allclose(ours(back, points), ours(transform, points), atol=tolerance)
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_several_are_written_at_a_time(tmp_path):
    transforms = [Composite([smooth_field(grid_of(orientation))]) for orientation in ORIENTATIONS]
    paths = [tmp_path / f"{n}.h5" for n in range(len(transforms))]
    with ThreadPoolExecutor(len(transforms)) as pool:
        list(pool.map(write_itk_composite, transforms, paths))
    for transform, path in zip(transforms, paths, strict=True):
        back: Any = read_transform(path).parts[0]
        field: Any = transform.parts[0]
        assert back.grid.same_as(field.grid, 1e-9)


def test_a_mirror_image_is_told(tmp_path):
    for name, signs in (("mirror", (-1, 1, 1)), ("turned", (-1, -1, 1))):
        write_itk_affine(Affine(np.diag([*signs, 1.0])), tmp_path / f"{name}.txt")
    with pytest.warns(InputWarning, match="mirror image"):
        read_transform(tmp_path / "mirror.txt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_transform(tmp_path / "turned.txt")


@pytest.mark.parametrize("ending", [".mat", ".txt", ".tfm"])
def test_affines_in_itk_files(ending, tmp_path):
    affine = known_affine()
    write_itk_affine(affine, tmp_path / f"a{ending}")
    (found,) = read_transform(tmp_path / f"a{ending}").parts
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix, affine.matrix, atol=1e-12)
    points = points_in(grid_of("RAS"), 20)
    np.testing.assert_allclose(itk_points(sitk.ReadTransform(tmp_path / f"a{ending}"), points), ours(affine, points))


def itk_kinds() -> list[sitk.Transform]:
    centre = (3.0, -8.0, 12.0)
    euler = sitk.Euler3DTransform(centre, 0.2, -0.1, 0.3, (1, 2, 3))
    zyx = sitk.Euler3DTransform(euler)
    zyx.SetComputeZYX(True)
    similarity = sitk.Similarity3DTransform(1.1, (0.2, 0.5, 0.1), 0.4, (4, -5, 6), centre)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix([1.1, 0.1, 0, -0.05, 0.9, 0.02, 0, 0.1, 1.2])
    affine.SetTranslation((5, 6, -7))
    affine.SetCenter(centre)
    rigid_and_scales = (0.1, -0.2, 0.3, 4.0, 5.0, -6.0, 1.1, 0.9, 1.2)
    scaled = []
    for skewed, skews in (
        (sitk.ScaleVersor3DTransform(), ()),
        (sitk.ScaleSkewVersor3DTransform(), (0.01, -0.02, 0.03, 0.04, -0.05, 0.06)),
        (sitk.ComposeScaleSkewVersor3DTransform(), (0.1, -0.2, 0.3)),
    ):
        skewed.SetCenter(centre)
        skewed.SetParameters((*rigid_and_scales, *skews))
        scaled.append(skewed)
    return [
        *scaled,
        euler,
        zyx,
        similarity,
        affine,
        sitk.VersorRigid3DTransform((0.1, 0.7, 0.3), 0.5, (1, -2, 3), centre),
        sitk.VersorTransform((0.1, 0.7, 0.3), 0.5, centre),
        sitk.TranslationTransform(3, (1.0, 2.0, 3.0)),
        sitk.ScaleTransform(3, (1.1, 0.8, 1.3)),
        sitk.Transform(3, sitk.sitkIdentity),
    ]


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
@pytest.mark.parametrize("kind", itk_kinds(), ids=lambda kind: kind.GetName())
def test_itks_own_kinds(kind, ending, tmp_path):
    sitk.WriteTransform(kind, tmp_path / f"t{ending}")
    points = points_in(grid_of("RAS"), 20)
    np.testing.assert_allclose(
        ours(read_transform(tmp_path / f"t{ending}"), points), itk_points(kind, points), atol=1e-9
    )


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_itks_own_composites_keep_their_order(ending, tmp_path):
    parts = itk_kinds()[2:7]
    composite = sitk.CompositeTransform(parts)
    sitk.WriteTransform(composite, tmp_path / f"t{ending}")
    points = points_in(grid_of("RAS"), 20)
    np.testing.assert_allclose(
        ours(read_transform(tmp_path / f"t{ending}"), points), itk_points(composite, points), atol=1e-9
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_field_that_itk_wrote(orientation, tmp_path):
    grid = grid_of(orientation)
    write_itk_composite(smooth_field(grid), tmp_path / "ours.h5")
    transform = sitk.ReadTransform(tmp_path / "ours.h5")
    sitk.WriteTransform(transform, tmp_path / "itks.h5")  # double precision
    points = points_in(grid)
    np.testing.assert_allclose(
        ours(read_transform(tmp_path / "itks.h5"), points), itk_points(transform, points), atol=2e-5
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_dense_warp_is_read_as_simpleitk_reads_it(orientation, tmp_path):
    grid = grid_of(orientation)
    transform = Composite([smooth_field(grid), known_affine()])
    write_warp(transform, grid, tmp_path / "w.nii.gz")
    points = points_in(grid)
    back = read_transform(tmp_path / "w.nii.gz")
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(tmp_path / "w.nii.gz", sitk.sitkVectorFloat64))
    np.testing.assert_allclose(ours(back, points), itk_points(theirs, points), atol=1e-4)
    whole = points_in(grid, whole=True)
    np.testing.assert_allclose(ours(back, whole), ours(transform, whole), atol=1e-4)


def test_a_bare_matrix_is_read_as_what_it_is_said_to_be(tmp_path):
    np.savetxt(tmp_path / "greedy.mat", known_affine().matrix)
    assert 'format="greedy"' in sentence(read_transform, tmp_path / "greedy.mat")
    (found,) = read_transform(tmp_path / "greedy.mat", FileKind("greedy")).parts
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix, known_affine().matrix)


# -- what cannot be read -------------------------------------------------------------------------------------------


def broken_files(folder):
    good = folder / "good.h5"
    write_itk_composite(Composite([smooth_field(grid_of("RAS")), known_affine()]), good)
    (folder / "truncated.h5").write_bytes(good.read_bytes()[:-20_000])
    (folder / "empty.h5").write_bytes(b"")
    (folder / "words.txt").write_text("hello")
    (folder / "numbers.txt").write_text("1 0 0 0\n0 1 0 x\n0 0 1 0\n0 0 0 1\n")
    (folder / "singular.txt").write_text("1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n")
    (folder / "cut.tfm").write_text(
        "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: 1 2\n"
    )
    (folder / "binary.mat").write_bytes(b"\0\1\2\3" * 40)
    (folder / "unknown.xfm").write_text("x")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = 1
    for name, edit in (("size", 0), ("nan", 9)):
        path = folder / f"{name}.h5"
        path.write_bytes(good.read_bytes())
        with h5py.File(path, "r+") as file:
            file["TransformGroup/2/TransformFixedParameters"][edit] = 5 if name == "size" else np.nan
    bspline = sitk.BSplineTransform(3)
    sitk.WriteTransform(bspline, folder / "bspline.h5")
    sitk.WriteTransform(sitk.Euler2DTransform(), folder / "flat.tfm")
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    nib.save(image, folder / "image.nii.gz")
    warp = nib.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4))
    nib.save(warp, folder / "intent.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "image.nii.gz").read_bytes()[:60])
    return sorted(path for path in folder.iterdir() if path != good)


def test_every_file_that_is_no_transform_is_one_clear_sentence(tmp_path):
    paths = broken_files(tmp_path)
    assert len(paths) == 16
    for path in [*paths, tmp_path / "absent.h5", tmp_path]:
        with pytest.raises(UserError) as caught:
            read_transform(path)
        sentence = str(caught.value)
        assert path.name in sentence and "\n" not in sentence, sentence


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    class Strange(Affine):
        @property
        def parts(self):
            return (object(),)

    with pytest.raises(TypeError):
        write_itk_composite(Strange(np.eye(4)), tmp_path / "t.h5")
    for path, transform in ((tmp_path / "t.mat", known_affine()), (tmp_path / "no" / "t.h5", known_affine())):
        with pytest.raises(UserError):
            write_itk_composite(transform, path)
    with pytest.raises(UserError):
        write_itk_affine(known_affine(), tmp_path / "t.h5")
    assert list(tmp_path.iterdir()) == []


# -- files of another kind -------------------------------------------------------------------------------------------


def test_files_of_another_kind(files):
    write_transform(known_affine(), files / "a.mat")
    assert "another kind" in sentence(read_transform, files / "a.mat", FileKind("fsl", FIXED, MOVING))
    assert "another kind" in sentence(read_transform, files / "t.h5", FileKind("freesurfer"))
    (files / "cut.lta").write_text("type      = 1\nnxforms   = 1\n1 4 4\n1 0 0 0\n")
    assert "truncated" in sentence(read_transform, files / "cut.lta")
    image = nib.MGHImage(np.zeros(MOVING.shape, np.float32), MOVING.voxel_to_world)
    nib.save(image, files / "image.mgz")
    assert "is an image (of 24 × 28 × 22 voxels), not a transform" in sentence(read_transform, files / "image.mgz")
    convert_transform(files / "t.h5", files / "w.mgz", "freesurfer", FileKind(None, FIXED, MOVING))
    whole = (files / "w.mgz").read_bytes()
    (files / "w.mgz").write_bytes(whole[: len(whole) // 2])
    assert "w.mgz" in sentence(read_transform, files / "w.mgz")
    assert "name that image with moving=" in sentence(
        read_transform, make(files, "w.nii.gz", "fsl"), FileKind("fsl", FIXED)
    )
    assert "another grid" in sentence(read_transform, files / "w.nii.gz", FileKind("fsl", MOVING, MOVING))
    assert "format=" in sentence(read_transform, make(files, "l2r.nii.gz", "learn2reg"))
    assert "not a fsl warp" in sentence(
        read_transform, make(files, "n.nii.gz", "nifti"), FileKind("fsl", FIXED, MOVING)
    )


@pytest.mark.parametrize("name", ["w.nii", "w.nii.gz", "w.mgz"])
@pytest.mark.parametrize("kept", [0.02, 0.6, 0.995])
def test_a_truncated_warp(files, name, kept):
    whole = make(files, name, "freesurfer" if name.endswith("mgz") else "nifti").read_bytes()
    (files / name).write_bytes(whole[: int(kept * len(whole))])
    assert name in sentence(read_transform, files / name)


def make(files: Path, name: str, format: Any) -> Path:
    convert_transform(files / "t.h5", files / name, format, FileKind(None, FIXED, MOVING))
    return files / name


def test_formats_as_they_are_typed() -> None:
    assert parse_formats("ITK, ants,ants") == ("itk", "ants")
    with pytest.raises(UserError, match="no transform format 'elastix'"):
        parse_formats("itk,elastix")
