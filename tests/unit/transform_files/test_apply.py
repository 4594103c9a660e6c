"""Verbs on transform files: what is kept of an image, which way points go, and every refusal's sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from spatial_cases import grid_of, known_affine, points_in, smooth_field, smooth_image
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io import read_grid, read_image, write_series
from uresnet.transform import Affine, Composite, resample
from uresnet.transform_files import (
    FileKind,
    apply_to_points,
    apply_transform,
    convert_transform,
    jacobian_of,
    read_chain,
    read_points,
    read_transform,
    write_itk_composite,
    write_points,
    write_transform,
    write_warp,
)

FIXED = grid_of("oblique")
MOVING = grid_of("PIR", shape=(24, 28, 22), zooms=(1.5, 1.7, 2.1), centre=(8.0, -10.0, 18.0))
TRANSFORM = Composite([smooth_field(FIXED), known_affine()])  # written to 1.6e-5 mm


def save(folder: Path, name: str, values: np.ndarray, grid: Grid = MOVING, **header) -> Path:
    image = nib.Nifti1Image(values, grid.voxel_to_world, dtype=values.dtype)
    image.set_sform(grid.voxel_to_world, 1)
    image.set_qform(grid.voxel_to_world, 1)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, folder / name)
    return folder / name


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_itk_composite(TRANSFORM, tmp_path / "t.h5")
    save(tmp_path, "fixed.nii.gz", np.zeros(FIXED.shape, np.float32), FIXED)
    return tmp_path


def applied(files: Path, name: str, **options) -> nib.Nifti1Image:
    result = apply_transform(files / "t.h5", files / name, files / "fixed.nii.gz", **options)
    write_series(result.values, result.grid, files / "out.nii.gz", result.source)
    return nib.load(files / "out.nii.gz")


def blocks() -> np.ndarray:
    """Labels in patches, with ids as large as parcels have."""
    values = np.zeros(MOVING.shape, np.uint16)
    for n, start in enumerate((4, 9, 14)):
        values[start : start + 5, 5:22, 4:18] = (17, 1035, 60000)[n]
    return values


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<f4", ">f4", "<f8"])
def test_images_of_any_type_are_the_same_image(files, dtype):
    grey = np.rint(20 * smooth_image(MOVING).numpy() + (0 if dtype[-2] in "if" else 60)).clip(
        0 if "u" in dtype else -120, 120
    )
    save(files, "m.nii.gz", grey.astype(dtype))
    found = applied(files, "m.nii.gz", interpolation="linear")
    expected = resample(TRANSFORM, Image(torch.from_numpy(grey.astype(np.float32)), MOVING), FIXED).data.numpy()
    whole = dtype[-2] != "f"
    np.testing.assert_allclose(found.get_fdata(), expected, atol=0.502 if whole else 2e-3)
    assert found.get_data_dtype() == (np.dtype(dtype).newbyteorder("=") if whole else np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_integers_are_rounded_and_clipped_not_wrapped(files, dtype):
    """Cubic interpolation overshoots between the darkest and the brightest value that the type can hold."""
    limits = np.iinfo(dtype)
    values = np.random.default_rng(3).integers(limits.min, limits.max, MOVING.shape, dtype, endpoint=True)
    values[::3], values[1::3] = limits.min, limits.max
    values[:, ::2] //= 3  # not in patches
    save(files, "m.nii.gz", values)
    result = apply_transform(files / "t.h5", files / "m.nii.gz", files / "fixed.nii.gz", "cubic")
    chain, meant, grid = read_chain(files / "t.h5"), read_image(files / "m.nii.gz"), read_grid(files / "fixed.nii.gz")
    free = resample(chain, meant, grid, "cubic").data.numpy().astype(np.float64)
    over, under = free > 1.01 * limits.max, free < limits.min - 0.01 * limits.max
    assert over.any() and under.any() and result.values.dtype == dtype
    assert (result.values[over] > 0.999 * limits.max).all() and (result.values[under] == limits.min).all()
    between = (free > limits.min) & (free < limits.max)
    apart = np.abs(result.values[between].astype(np.float64) - free[between])
    assert apart.max() <= 0.5 + (0 if limits.bits <= 16 else 1e-6 * limits.max)  # float32 has 24 bits


def test_shares_of_a_mask_are_not_rounded_away(files):
    save(files, "mask.nii.gz", (blocks() > 0).astype(np.uint8))
    found = applied(files, "mask.nii.gz", interpolation="linear")
    values = found.get_fdata()
    assert found.get_data_dtype() == np.float32 and ((values > 0.1) & (values < 0.9)).sum() > 100


def test_whole_numbers_in_patches_are_labels_and_keep_their_type(files):
    save(files, "labels.nii.gz", blocks())
    found = applied(files, "labels.nii.gz")
    assert found.get_data_dtype() == np.uint16
    assert set(np.unique(np.asarray(found.dataobj))) == {0, 17, 1035, 60000}
    labels = LabelMap(torch.from_numpy(blocks().astype(np.int32)), MOVING)
    np.testing.assert_array_equal(np.asarray(found.dataobj), resample(TRANSFORM, labels, FIXED).data.numpy())


def test_what_the_header_calls_labels_and_what_stands_alone_are_labels(files):
    """Noise of whole numbers looks like a scan, single voxels like nothing: mixing either would make other labels."""
    noise = np.random.default_rng(0).integers(1, 300, MOVING.shape).astype(np.int16)
    assert applied_as(files, save(files, "noise.nii.gz", noise)) == "linear"
    assert applied_as(files, save(files, "called.nii.gz", noise, intent_code=1002)) == "label"
    landmarks = np.zeros(MOVING.shape, np.int16)
    landmarks[5::8, 5::8, 5::8] = 7
    assert applied_as(files, save(files, "landmarks.nii.gz", landmarks)) == "label"


def applied_as(files: Path, image: Path) -> str:
    return apply_transform(files / "t.h5", image, files / "fixed.nii.gz").interpolation


def test_an_image_of_whole_numbers_is_not_taken_for_labels(files):
    """Raw scans are stored as int16: their values are intensities all the same."""
    save(files, "raw.nii.gz", np.rint(300 + 100 * smooth_image(MOVING).numpy()).astype(np.int16))
    result = apply_transform(files / "t.h5", files / "raw.nii.gz", files / "fixed.nii.gz")
    assert (result.interpolation, result.values.dtype) == ("linear", np.int16)
    assert result.reason.endswith("a scan")


def test_scaled_integers_are_what_they_mean(files):
    image = nib.Nifti1Image(blocks().astype(np.int16) % 100, MOVING.voxel_to_world)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, files / "scaled.nii.gz")
    meant = nib.load(files / "scaled.nii.gz").get_fdata().astype(np.float32)
    image = applied(files, "scaled.nii.gz", interpolation="linear")
    assert image.get_data_dtype() == np.float32
    found = image.get_fdata()
    expected = resample(TRANSFORM, Image(torch.from_numpy(meant), MOVING), FIXED).data.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_series_goes_volume_by_volume_and_keeps_its_times(files):
    series = np.stack([smooth_image(MOVING, seed).numpy() for seed in range(3)], axis=-1)
    path = save(files, "bold.nii.gz", series, descrip=b"run 1", toffset=0.3)
    image = nib.load(path)
    image.header.set_zooms((*MOVING.zooms, 2.5))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(nib.Nifti1Image(series, image.affine, image.header), path)
    found = applied(files, "bold.nii.gz")
    assert found.shape == (*FIXED.shape, 3) and found.header.get_zooms()[3] == 2.5
    assert found.header.get_xyzt_units() == ("mm", "sec") and bytes(found.header["descrip"]).startswith(b"run 1")
    np.testing.assert_allclose(found.affine, FIXED.voxel_to_world, atol=1e-5)
    for n in range(3):
        one = resample(TRANSFORM, Image(torch.from_numpy(series[..., n]), MOVING), FIXED).data.numpy()
        np.testing.assert_allclose(found.get_fdata()[..., n], one, atol=1e-4)


def test_several_transforms_in_the_stated_order(files):
    write_transform(known_affine(), files / "b.mat")
    chain = read_chain([files / "t.h5", files / "b.mat"])
    points = torch.from_numpy(points_in(FIXED, 30))
    torch.testing.assert_close(chain.apply(points), known_affine().apply(TRANSFORM.apply(points)), atol=1e-4, rtol=0)


# -- points --------------------------------------------------------------------------------------------------------


def test_points_of_the_fixed_image_go_to_the_moving_one(files):
    """A landmark seen in both images: the moving image is brought onto the fixed one, the landmark goes back."""
    landmark = FIXED.points_to_world([11, 15, 8])
    there = TRANSFORM.apply(torch.from_numpy(landmark)[None])[0].numpy()
    i, j, k = np.rint(MOVING.points_to_voxel(there)).astype(int)
    values = np.zeros(MOVING.shape, np.float32)
    values[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 1
    save(files, "m.nii.gz", values)
    seen = applied(files, "m.nii.gz", interpolation="linear").get_fdata()
    centre = np.array([np.indices(seen.shape)[a].ravel() @ seen.ravel() for a in range(3)]) / seen.sum()
    assert np.abs(FIXED.points_to_world(centre) - landmark).max() < 1.5
    (files / "p.csv").write_text("name,x,y,z\nseen,{},{},{}\n".format(*landmark))
    write_points(apply_to_points(files / "t.h5", files / "p.csv"), files / "q.csv")
    back = read_points(files / "q.csv")
    np.testing.assert_allclose(back.points[0], there, atol=1e-4)
    assert back.header == ("name", "x", "y", "z", "inside") and back.rows[0][0] == "seen" and back.rows[0][4] == "1"


def test_points_outside_are_said_not_clamped(files):
    far = FIXED.corners_world[0] + (FIXED.corners_world[0] - FIXED.centre_world)
    (files / "p.csv").write_text("{},{},{}\n{},{},{}\n".format(*far, *FIXED.centre_world))
    table = apply_to_points(files / "t.h5", files / "p.csv")
    assert table.inside.tolist() == [False, True]
    np.testing.assert_allclose(table.points[0], known_affine().apply(torch.from_numpy(far)[None])[0], atol=1e-9)


def test_points_in_lps(files):
    world = points_in(FIXED, 5)
    for header, option in (("x,y,z,t\n", True), ("L,P,S,t\n", False)):
        rows = "".join(f"{-x},{-y},{z},0\n" for x, y, z in world)
        (files / "p.csv").write_text(header + rows)
        table = apply_to_points(files / "t.h5", files / "p.csv", lps=option)
        np.testing.assert_allclose(table.points, TRANSFORM.apply(torch.from_numpy(world)).numpy(), atol=1e-4)
        write_points(table, files / "q.csv")
        row = [float(cell) for cell in (files / "q.csv").read_text(encoding="utf-8").splitlines()[1].split(",")]
        np.testing.assert_allclose(row[:3] * np.array([-1, -1, 1]), table.points[0], atol=1e-5)


# -- one sentence --------------------------------------------------------------------------------------------------


def sentence(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_vectors_are_refused_with_the_reason(files):
    write_warp(TRANSFORM, MOVING, files / "warp.nii.gz")
    said = sentence(apply_transform, files / "t.h5", files / "warp.nii.gz", files / "fixed.nii.gz")
    assert "turned as well as moved" in said
    colours = np.zeros(MOVING.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, MOVING.voxel_to_world), files / "rgb.nii.gz")
    said = sentence(apply_transform, files / "t.h5", files / "rgb.nii.gz", files / "fixed.nii.gz")
    assert "rgb.nii.gz" in said


def test_a_series_where_one_volume_belongs(files):
    save(files, "bold.nii.gz", np.zeros((*MOVING.shape, 4), np.float32))
    assert "4 volumes" in sentence(read_image, files / "bold.nii.gz")


def test_fractions_are_no_labels(files):
    save(files, "m.nii.gz", smooth_image(MOVING).numpy())
    said = sentence(apply_transform, files / "t.h5", files / "m.nii.gz", files / "fixed.nii.gz", "label")
    assert "fractions" in said


def test_transforms_that_do_not_meet(files):
    away = Grid(
        FIXED.shape,
        Affine(np.array([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])).matrix @ FIXED.voxel_to_world,
    )
    write_itk_composite(Composite([smooth_field(away)]), files / "away.h5")
    said = sentence(read_chain, [files / "t.h5", files / "away.h5"])
    assert "do not meet" in said and "t.h5" in said and "away.h5" in said


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no points"),
        ("a,b,c\n1,2,3\n", "columns x, y, z"),
        ("x,y,z\n1,2\n", "three numbers"),
        ("x,y,z\n1,2,nan\n", "finite"),
    ],
)
def test_tables_that_hold_no_points(files, text, word):
    (files / "p.csv").write_text(text)
    assert word in sentence(read_points, files / "p.csv")


def test_files_of_another_kind(files):
    write_transform(known_affine(), files / "a.mat")
    assert "another kind" in sentence(read_transform, files / "a.mat", FileKind("fsl", FIXED, MOVING))
    assert "another kind" in sentence(read_transform, files / "t.h5", FileKind("freesurfer"))
    (files / "cut.lta").write_text("type      = 1\nnxforms   = 1\n1 4 4\n1 0 0 0\n")
    assert "truncated" in sentence(read_transform, files / "cut.lta")
    image = nib.MGHImage(np.zeros(MOVING.shape, np.float32), MOVING.voxel_to_world)
    nib.save(image, files / "image.mgz")
    assert "not a warp" in sentence(read_transform, files / "image.mgz")
    convert_transform(files / "t.h5", files / "w.mgz", "freesurfer", FileKind(None, FIXED, MOVING))
    whole = (files / "w.mgz").read_bytes()
    (files / "w.mgz").write_bytes(whole[: len(whole) // 2])
    assert "w.mgz" in sentence(read_transform, files / "w.mgz")
    assert "name that image with --moving" in sentence(
        read_transform, make(files, "w.nii.gz", "fsl"), FileKind("fsl", FIXED)
    )
    assert "another grid" in sentence(read_transform, files / "w.nii.gz", FileKind("fsl", MOVING, MOVING))
    assert "--from" in sentence(read_transform, make(files, "l2r.nii.gz", "learn2reg"))
    assert "not a fsl warp" in sentence(
        read_transform, make(files, "n.nii.gz", "nifti"), FileKind("fsl", FIXED, MOVING)
    )


@pytest.mark.parametrize("name", ["w.nii", "w.nii.gz", "w.mgz"])
@pytest.mark.parametrize("kept", [0.02, 0.6, 0.995])
def test_a_truncated_warp(files, name, kept):
    whole = make(files, name, "freesurfer" if name.endswith("mgz") else "nifti").read_bytes()
    (files / name).write_bytes(whole[: int(kept * len(whole))])
    assert name in sentence(read_transform, files / name)


def make(files: Path, name: str, format: str) -> Path:
    convert_transform(files / "t.h5", files / name, format, FileKind(None, FIXED, MOVING))
    return files / name


# -- conversion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["itk", "ants", "fsl", "freesurfer", "greedy", "nifti", "learn2reg"])
def test_all_files_of_a_format(files, format):
    done = convert_transform(files / "t.h5", files / f"{format}_", format, FileKind(None, FIXED, MOVING))
    assert all(path.is_file() and path.name.startswith(f"{format}_") and text for path, text in done.items())
    assert any("nverse" in path.name for path in done)
    assert "exists already" in sentence(
        convert_transform, files / "t.h5", files / f"{format}_", format, FileKind(None, FIXED, MOVING)
    )


def test_a_format_says_which_image_it_lacks(files):
    assert "--moving" in sentence(convert_transform, files / "t.h5", files / "w.nii.gz", "fsl", FileKind(None, FIXED))
    assert "only an affine" in sentence(
        convert_transform, files / "t.h5", files / "f.mat", "fsl", FileKind(None, FIXED, MOVING)
    )


def test_the_logarithm_of_the_jacobian(files):
    plain, folded = jacobian_of(files / "t.h5")
    log, _ = jacobian_of(files / "t.h5", log=True)
    assert folded == 0
    torch.testing.assert_close(log.data, plain.data.log())
