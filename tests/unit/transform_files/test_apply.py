"""Images through transform files: what is kept of them, and a sentence for what cannot be applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from spatial_cases import known_affine, points_in, smooth_field, smooth_image
from transform_cases import FIXED, MOVING, TRANSFORM, applied, save, sentence
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import InputWarning
from uresnet.io import read_grid, read_image
from uresnet.transform import Affine, Composite, resample
from uresnet.transform_files import (
    apply_transform,
    jacobian_of,
    read_chain,
    write_itk_affine,
    write_itk_composite,
    write_transform,
    write_warp,
)


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
    result = apply_transform(files / "t.h5", files / "m.nii.gz", files / "fixed.nii.gz", "cubic", fill=0)
    chain, meant, grid = read_chain(files / "t.h5"), read_image(files / "m.nii.gz"), read_grid(files / "fixed.nii.gz")
    free = resample(chain, meant, grid, "cubic").data.numpy().astype(np.float64)
    over, under = free > 1.01 * limits.max, free < limits.min - 0.01 * limits.max
    assert over.any() and under.any() and result.job.dtype == result.values.dtype == dtype
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
    assert result.interpolation == "linear" and result.values.dtype == np.int16
    assert result.reason.endswith("a scan")


def test_scaled_integers_are_what_they_mean(files):
    image = nib.Nifti1Image(blocks().astype(np.int16) % 100, MOVING.voxel_to_world)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, files / "scaled.nii.gz")
    meant = nib.Nifti1Image.from_filename(files / "scaled.nii.gz").get_fdata().astype(np.float32)
    image = applied(files, "scaled.nii.gz", interpolation="linear")
    assert image.get_data_dtype() == np.float32
    found = image.get_fdata()
    expected = resample(TRANSFORM, Image(torch.from_numpy(meant), MOVING), FIXED, fill=3).data.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_series_goes_volume_by_volume_and_keeps_its_times(files):
    series = np.stack([smooth_image(MOVING, seed).numpy() for seed in range(3)], axis=-1)
    path = save(files, "bold.nii.gz", series, descrip=b"run 1", toffset=0.3)
    image = nib.Nifti1Image.from_filename(path)
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


# -- one sentence --------------------------------------------------------------------------------------------------


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


def test_the_logarithm_of_the_jacobian(files):
    plain, folded = jacobian_of(files / "t.h5")
    log, _ = jacobian_of(files / "t.h5", log=True)
    assert folded == 0
    torch.testing.assert_close(log.data, plain.data.log())


# -- background, lost labels, length --------------------------------------------------------------------------------


@pytest.mark.parametrize("around", [-1024, 500])
def test_a_scan_on_another_background_is_the_same_scan(files, around):
    """Shifted by its background: linear interpolation commutes with adding a constant."""
    grey = np.zeros(MOVING.shape, np.int16)
    grey[6:-6, 6:-6, 6:-6] = np.random.default_rng(0).integers(100, 900, (12, 16, 10))
    save(files, "zero.nii.gz", grey)
    save(files, "other.nii.gz", grey + np.int16(around))
    zero = apply_transform(files / "t.h5", files / "zero.nii.gz", files / "fixed.nii.gz")
    other = apply_transform(files / "t.h5", files / "other.nii.gz", files / "fixed.nii.gz")
    assert other.interpolation == "linear" and other.job.outside == around
    np.testing.assert_allclose(other.values.astype(int), zero.values.astype(int) + around, atol=1)
    filled = apply_transform(files / "t.h5", files / "other.nii.gz", files / "fixed.nii.gz", fill=7)
    assert set(np.unique(filled.values[other.values != filled.values])) == {7}
    assert "cannot fill" in sentence(
        apply_transform, files / "t.h5", files / "other.nii.gz", files / "fixed.nii.gz", fill=0.5
    )


def test_nan_around_a_brain_stays_outside_and_does_not_darken_its_edge(files):
    grey = np.full(MOVING.shape, np.nan, np.float32)
    grey[6:-6, 6:-6, 6:-6] = 100.25
    save(files, "m.nii.gz", grey)
    values = apply_transform(files / "t.h5", files / "m.nii.gz", files / "fixed.nii.gz").values
    assert np.isnan(values).any() and np.isfinite(values).any()
    np.testing.assert_allclose(values[np.isfinite(values)], 100.25, rtol=1e-6)


def test_lost_labels_are_named_and_counted(files):
    points = np.zeros(MOVING.shape, np.int16)
    points[6:18, 6:20, 6:16] = 3
    points[10, 10, 10], points[0, 0, 0] = 41, 99
    save(files, "labels.nii.gz", points)
    coarse = FIXED.rescaled([3, 3, 3])
    save(files, "coarse.nii.gz", np.zeros(coarse.shape, np.float32), coarse)
    result = apply_transform(files / "t.h5", files / "labels.nii.gz", files / "coarse.nii.gz")
    with pytest.warns(InputWarning, match="labels.nii.gz loses 2 of its 3 labels on the new grid: 41, 99"):
        result.write(files / "out.nii.gz", files / "volumes.tsv")
    rows = [line.split("\t") for line in (files / "volumes.tsv").read_text().splitlines()]
    assert rows[2][:3] == ["1", "41", "1"] and float(rows[2][3]) == pytest.approx(1.5 * 1.7 * 2.1, rel=1e-4)
    after = int((nib.Nifti1Image.from_filename(files / "out.nii.gz").get_fdata() == 3).sum())
    assert rows[1][4] == str(after)


@pytest.mark.parametrize(("ids", "said"), [((41,), "the only label"), ((41, 99), "all 2 labels")])
def test_a_label_map_of_which_nothing_is_left_is_refused(files, ids, said):
    points = np.zeros(MOVING.shape, np.int16)
    points[10, 10, 10], points[0, 0, 0] = ids[0], ids[-1]
    save(files, "labels.nii.gz", points)
    coarse = FIXED.rescaled([3, 3, 3])
    save(files, "coarse.nii.gz", np.zeros(coarse.shape, np.float32), coarse)
    for how in (None, "nearest"):
        result = apply_transform(files / "t.h5", files / "labels.nii.gz", files / "coarse.nii.gz", how)
        assert f"loses {said} on the new grid" in sentence(result.write, files / "out.nii.gz")
        assert not (files / "out.nii.gz").exists()
    save(files, "none.nii.gz", np.zeros(MOVING.shape, np.int16))
    apply_transform(files / "t.h5", files / "none.nii.gz", files / "coarse.nii.gz", "label").write(files / "out.nii.gz")


def test_a_file_without_numbers_is_refused(files):
    save(files, "m.nii.gz", np.full(MOVING.shape, np.nan, np.float32))
    result = apply_transform(files / "t.h5", files / "m.nii.gz", files / "fixed.nii.gz")
    assert "m.nii.gz holds no numbers at all" in sentence(result.write, files / "out.nii.gz")


def test_a_thin_slab_is_found_on_a_large_grid(files):
    """One slice of 1 mm between the points of any coarse lattice, in an image and in a warp."""
    large = Grid((160, 160, 160), np.diag([1.0, 1, 1, 1]))
    for k in (41, 42, 43, 44):
        matrix = np.eye(4)
        matrix[2, 3] = k
        slab = Grid((160, 160, 1), matrix)
        save(files, "slab.nii.gz", np.random.default_rng(k).normal(size=slab.shape).astype(np.float32), slab)
        save(files, "large.nii.gz", np.zeros(large.shape, np.uint8), large)
        write_itk_affine(Affine.identity(), files / "identity.tfm")
        found = apply_transform(files / "identity.tfm", files / "slab.nii.gz", files / "large.nii.gz").values
        assert found[:, :, k].std() > 0.9 and not np.delete(found, k, axis=2).any()


def test_a_scan_of_which_nothing_is_left_is_said_aloud(files):
    grey = np.full(MOVING.shape, -1000, np.float32)
    grey[1, 1, 1:4] = 0.5, 1.5, 2.5
    save(files, "m.nii.gz", grey)
    corner = FIXED.rescaled([8, 8, 8])
    save(files, "corner.nii.gz", np.zeros(corner.shape, np.float32), corner)
    result = apply_transform(files / "t.h5", files / "m.nii.gz", files / "corner.nii.gz")
    with pytest.warns(InputWarning, match="Nothing of .*m.nii.gz is left on the new grid but its background"):
        result.write(files / "out.nii.gz")


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz", "out.mgz", "out.mgh", "OUT.NII.GZ"])
def test_a_series_is_written_as_it_comes(files, name):
    values = np.random.default_rng(1).integers(0, 900, (*MOVING.shape, 3)).astype(np.int16)
    save(files, "bold.nii.gz", values)
    result = apply_transform(files / "t.h5", files / "bold.nii.gz", files / "fixed.nii.gz")
    result.write(files / name)
    back: Any = nib.load(files / name) if name.islower() else nib.Nifti1Image.from_filename(files / name)
    np.testing.assert_array_equal(np.asarray(back.dataobj), result.values)
    np.testing.assert_allclose(back.affine, FIXED.voxel_to_world, atol=1e-4)


def test_a_disk_without_the_space_is_a_sentence_before_the_work(files, monkeypatch):
    save(files, "bold.nii.gz", np.ones((*MOVING.shape, 3), np.float32))
    result = apply_transform(files / "t.h5", files / "bold.nii.gz", files / "fixed.nii.gz")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert "are free" in sentence(result.write, files / "out.nii")
    assert not (files / "out.nii").exists()
