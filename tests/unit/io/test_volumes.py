"""Files in and out, against nibabel and SimpleITK; and a sentence for everything that is wrong with a file."""

from __future__ import annotations

import gzip
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from image_files import saved
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_grid, read_image, read_labels, write_image, write_labels


def some_image(grid: Grid) -> Image:
    return Image(torch.from_numpy(np.random.default_rng(1).normal(100, 30, grid.shape)), grid)


# -- right files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz", ".mgh"])
def test_what_is_written_is_read(grid: Grid, suffix: str, tmp_path: Path) -> None:
    image = some_image(grid)
    write_image(image, tmp_path / f"a{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(back.data, image.data)
    assert back.grid.same_as(grid)
    assert read_grid(tmp_path / f"a{suffix}").same_as(grid)
    assert back.oriented
    assert back.invalid is None


def test_itk_and_nibabel_read_ours(grid: Grid, tmp_path: Path) -> None:
    image = some_image(grid)
    write_image(image, tmp_path / "a.nii.gz")
    itk = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    voxel = (3, 4, 5)
    x, y, z = itk.TransformIndexToPhysicalPoint(voxel)
    np.testing.assert_allclose([-x, -y, z], grid.points_to_world(voxel), atol=2e-4)
    assert itk[voxel] == pytest.approx(float(image.data[voxel]))
    header = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").header
    assert header["qform_code"] >= 1
    assert header["sform_code"] >= 1
    np.testing.assert_allclose(header.get_qform(), grid.voxel_to_world, atol=2e-4)
    np.testing.assert_allclose(header.get_sform(), grid.voxel_to_world, atol=2e-5)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == np.float32


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i4", "<f8", "<u2"])
def test_any_number_type_becomes_float32(dtype: str, tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    image = nib.Nifti1Image(
        values.astype(values.dtype.newbyteorder("=")), np.eye(4), dtype=values.dtype.newbyteorder("=")
    )
    nib.save(image, tmp_path / "a.nii")
    back = read_image(tmp_path / "a.nii").data
    assert back.dtype == torch.float32
    np.testing.assert_array_equal(back, values.astype(float))


def test_scaling_in_the_header_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(
        read_image(tmp_path / "a.nii.gz").data, nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").get_fdata()
    )
    # Label maps stored as scaled values are whole numbers all the same.
    image = nib.Nifti1Image(np.array([[[0, 200, 410]]], dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.1, 0)
    nib.save(image, tmp_path / "b.nii.gz")
    assert read_labels(tmp_path / "b.nii.gz").data.flatten().tolist() == [0, 20, 41]


def test_a_fourth_axis_of_one_is_nothing(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((3, 4, 5, 1)).astype(np.float32)
    back = read_image(saved(tmp_path / "a.nii", data, np.eye(4)))
    np.testing.assert_array_equal(back.data, data[..., 0])


@pytest.mark.parametrize(("top", "dtype"), [(2035, np.int16), (100_000, np.int32)])
def test_labels_keep_their_values(grid: Grid, top: int, dtype: type, tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, top, grid.shape)
    values[0, 0, 0] = top
    write_labels(LabelMap(torch.from_numpy(values), grid), tmp_path / "a.nii.gz")
    assert nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").get_data_dtype() == dtype
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz").data, values)


# -- questionable files ----------------------------------------------------------------------------------------------


def test_voxels_that_are_no_numbers_become_zero_and_are_remembered(tmp_path: Path) -> None:
    data = np.ones((3, 4, 5), np.float32)
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    with pytest.warns(InputWarning, match="2 voxels that are not a number or infinite"):
        image = read_image(saved(tmp_path / "a.nii", data, np.eye(4)))
    assert image.invalid is not None
    np.testing.assert_array_equal(np.argwhere(image.invalid.numpy()), [[0, 0, 0], [1, 1, 1]])
    assert float(image.data[1, 1, 1]) == 0
    assert float(image.data.sum()) == 58


# -- wrong files -----------------------------------------------------------------------------------------------------


def _good(folder: Path) -> bytes:
    data = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    return saved(folder / "good.nii.gz", data, np.eye(4)).read_bytes()


def _mgh(folder: Path) -> bytes:
    nib.save(nib.MGHImage(np.ones((20, 20, 20), np.float32), np.eye(4)), folder / "good.mgh")
    return (folder / "good.mgh").read_bytes()


def _text(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


WRONG = {
    "missing": (lambda f: f / "none.nii.gz", "does not exist"),
    "folder": (lambda f: f, "is a folder"),
    "dead link": (lambda f: _linked(f / "a.nii.gz", f / "gone"), "link to a file that is not here"),
    "empty": (lambda f: _text(f, "a.nii.gz", b""), "is empty"),
    "other type": (lambda f: _text(f, "a.png", b"\x89PNG"), "not a file type that can be read"),
    "annex": (lambda f: _text(f, "a.mgz", b"../.git/annex/objects/WQ/x.mgz"), "only a pointer"),
    "lfs": (
        lambda f: _text(f, "a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "only a pointer",
    ),
    "web page": (lambda f: _text(f, "a.nii.gz", b"<html><body>404"), "web page"),
    "not gzip": (lambda f: _text(f, "a.nii.gz", b"hello, I am a text"), "not a gzip file"),
    "gzip in disguise": (lambda f: _text(f, "a.nii", _good(f)), "is a gzip file"),
    "text in gzip": (lambda f: _text(f, "a.nii.gz", gzip.compress(b"hello" * 200)), "not an image that can be read"),
    "text": (lambda f: _text(f, "a.nii", b"hello" * 200), "not an image that can be read"),
    "text as mgz": (lambda f: _text(f, "a.mgz", gzip.compress(b"hello" * 200)), "not an image that can be read"),
    "cut gzip": (lambda f: _text(f, "a.nii.gz", _good(f)[:9000]), "truncated"),
    "cut in the header": (lambda f: _text(f, "a.nii.gz", _good(f)[:60]), "truncated"),
    "cut in the header, then zipped": (
        lambda f: _text(f, "a.nii.gz", gzip.compress(gzip.decompress(_good(f))[:60])),
        "truncated",
    ),
    "cut in the header of an MGZ": (lambda f: _text(f, "a.mgz", gzip.compress(_mgh(f)[:60])), "truncated"),
    "cut in the header of an MGH": (lambda f: _text(f, "a.mgh", _mgh(f)[:4]), "truncated"),
    "cut": (lambda f: _text(f, "a.nii", gzip.decompress(_good(f))[:9000]), "truncated"),
    "damaged gzip": (lambda f: _text(f, "a.nii.gz", _good(f)[:500] + bytes(500) + _good(f)[1000:]), "damaged"),
    "two volumes": (lambda f: saved(f / "a.nii", np.ones((3, 4, 5, 2), np.float32), np.eye(4)), "holds 2 volumes"),
    "flat": (lambda f: saved(f / "a.nii", np.ones((3, 4), np.float32), np.eye(4)), "2 dimensions"),
    "complex": (lambda f: saved(f / "a.nii", np.ones((3, 4, 5), np.complex64), np.eye(4)), "complex numbers"),
    "colour": (lambda f: saved(f / "a.nii", np.ones((3, 4, 5), [(c, "u1") for c in "RGB"]), np.eye(4)), "colours"),
    "singular": (lambda f: _with_sform(f / "a.nii", np.diag([1.0, 1, 0, 1])), "singular affine"),
    "not a number": (lambda f: _with_sform(f / "a.nii", np.diag([1.0, 1, np.nan, 1])), "singular affine"),
    "sheared": (
        lambda f: _with_sform(f / "a.nii", np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        "sheared affine",
    ),
    "not nrrd": (lambda f: _text(f, "a.nrrd", b"hello" * 200), "not an image that can be read"),
    "vectors": (lambda f: _vectors(f / "a.mha"), "3 values per voxel"),
}


def _linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def _with_sform(path: Path, sform: np.ndarray) -> Path:
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4))
    image.header["qform_code"] = 0
    image.header.set_sform(sform, code=1)
    nib.Nifti1Image(np.ones((3, 4, 5), np.float32), None, image.header).to_filename(path)
    return path


def _vectors(path: Path) -> Path:
    sitk.WriteImage(sitk.Image([3, 4, 5], sitk.sitkVectorFloat32, 3), str(path))
    return path


@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize("case", WRONG)
def test_one_sentence_says_what_is_wrong(case: str, read, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    make, words = WRONG[case]
    path = make(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert_is_a_sentence(str(caught.value), path)
    assert capfd.readouterr() == ("", "")


def assert_is_a_sentence(text: str, path: Path) -> None:
    assert text.startswith(str(path))
    assert text.endswith(".")
    assert "\n" not in text
    assert "; " in text or "(" in text  # says what to do


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 0\.37, not only whole numbers"):
        read_labels(saved(tmp_path / "a.nii", np.full((3, 4, 5), 0.37, np.float32), np.eye(4)))
    with pytest.raises(UserError, match="holds no numbers"):
        read_labels(saved(tmp_path / "b.nii", np.full((3, 4, 5), np.nan, np.float32), np.eye(4)))
    with pytest.raises(UserError, match="too large"):
        read_labels(saved(tmp_path / "c.nii", np.full((3, 4, 5), 1e12, np.float64), np.eye(4)))


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_sentence(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_image(some_image(grid), tmp_path / "a.nii.gz")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder does not exist"):
        write_image(some_image(grid), tmp_path / "none" / "a.nii.gz")
    with pytest.raises(UserError, match="not a file type that can be written"):
        write_image(some_image(grid), tmp_path / "a.nrrd")
    assert not list(tmp_path.iterdir())


def test_the_same_image_is_the_same_file(grid: Grid, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(some_image(grid), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_read_only_folder_is_a_sentence(grid: Grid, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        write_image(some_image(grid), tmp_path / "a.nii.gz")


# -- the collection of odd inputs --------------------------------------------------------------------------------------

ODD = {
    "all_zero.nii.gz": None,
    "empty.nii.gz": "is empty",
    "FLAIR.nrrd": None,
    "low_res.nii.gz": None,
    "nan_block.nii.gz": "warns: 8000 voxels",
    "no_qform_sform.nii.gz": "warns: does not say how it is oriented",
    "not_gzip.nii.gz": "web page",
    "one_inf.nii.gz": "warns: 1 voxel that is not a number or infinite",
    "origin_far_away.nii.gz": None,
    "pointer_file.mgz": "only a pointer",
    "raw_head_thick_slices.nii.gz": None,
    "sheared_affine.nii.gz": "sheared affine",
    "singleton4d.nii.gz": None,
    "slab_4_slices.nii.gz": None,
    "small.mha": None,
    "time_series_4d.nii.gz": "holds 10 volumes",
    "truncated.nii.gz": "truncated",
    "two_volumes_4d.nii.gz": "holds 2 volumes",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_inputs(name: str, shared_data: Path) -> None:
    path, words = shared_data / "odd_inputs" / name, ODD[name]
    if words and words.startswith("warns: "):
        with pytest.warns(InputWarning, match=words.removeprefix("warns: ")):
            image = read_image(path)
    elif words:
        with pytest.raises(UserError, match=words) as caught:
            read_image(path)
        assert_is_a_sentence(str(caught.value), path)
        return
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = read_image(path)
    assert torch.isfinite(image.data).all()


def test_every_odd_input_is_in_the_table(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "odd_inputs").iterdir()} == set(ODD)
