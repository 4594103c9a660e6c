"""Label map or scan, and its background; files that are damaged, claim too much, or name other files."""

from __future__ import annotations

import gzip
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from image_files import saved
from uresnet.core.background import label_background, scan_background
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_image, read_labels, read_series
from uresnet.io.kinds import decide_kind

RNG = np.random.default_rng(5)
SHAPE = (16, 18, 14)
NOISE = RNG.integers(50, 900, SHAPE)


def framed(inside: np.ndarray, around: float, margin: int = 3) -> np.ndarray:
    out = np.full(SHAPE, around, dtype=np.float64)
    middle = (slice(margin, -margin),) * 3
    out[middle] = inside[middle]
    return out


def parcels() -> np.ndarray:
    ids = np.zeros(SHAPE)
    ids[3:8, 3:14, 3:10], ids[8:13, 3:9, 3:10], ids[8:13, 9:14, 3:10] = 2, 17, 1035
    return ids


@pytest.mark.parametrize("around", [0, -1024, 500, -1, np.nan])
def test_a_scan_with_a_background_is_a_scan(around):
    kind = decide_kind([framed(NOISE, around)], False)
    assert not kind.labels
    np.testing.assert_equal(kind.background, around)


def test_two_backgrounds_do_not_make_a_label_map():
    ct = framed(NOISE, -1000, 5)
    ct[:3], ct[-3:] = -3024, -3024  # beyond the circle that the scanner sees
    assert not decide_kind([ct], False).labels


def test_noisy_air_far_from_0_is_the_background_and_cut_tissue_is_none():
    air = framed(NOISE, 0)
    air[air == 0] = RNG.normal(-1000, 6, int((air == 0).sum()))
    assert scan_background(air) == pytest.approx(-1000, abs=3)
    assert scan_background(RNG.normal(400, 90, SHAPE)) == 0
    assert scan_background(np.abs(RNG.normal(0, 20, SHAPE))) == 0


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_labels_are_labels_whatever_is_around_them(dtype):
    ids = parcels()
    assert decide_kind([ids.astype(dtype)], False).labels
    assert decide_kind([np.where(ids > 0, ids, -1).astype(dtype)], False) == decide_kind(
        [np.where(ids > 0, ids, -1)], False
    )
    assert label_background(np.where(ids > 0, ids, -1)) == -1
    assert label_background(np.full(SHAPE, 2.0)) == 2 and label_background(ids) == 0


def test_a_voxel_without_a_number_leaves_a_label_map_one(tmp_path):
    for bad in (np.nan, np.inf, -np.inf):
        ids = parcels().astype(np.float32)
        ids[5, 5, 5] = bad
        assert decide_kind([ids], False).labels
        with pytest.warns(InputWarning, match="1 voxel that is not a number or infinite; taken as background"):
            labels = read_labels(saved(tmp_path / "l.nii.gz", ids, np.eye(4)))
        assert int(labels.data[5, 5, 5]) == 0
        assert set(np.unique(labels.data)) == {0, 2, 17, 1035}


def test_values_near_0_are_no_label_map():
    assert not decide_kind([framed(RNG.random(SHAPE) * 1e-5, 0)], False).whole
    assert decide_kind([parcels() * np.float32(1 + 1e-7)], False).labels


def test_an_empty_first_volume_decides_nothing():
    assert not decide_kind([np.zeros(SHAPE), framed(NOISE, 0)], False).labels
    assert not decide_kind([parcels(), framed(NOISE + 0.5, 0)], False).labels


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.mha", "a.nrrd"])
def test_a_flipped_bit_in_compressed_voxels_is_damage(name, tmp_path):
    """Every one of them: the checksums of gzip and zlib see single bits."""
    values = NOISE.astype(np.int16)
    if name.endswith("gz"):
        nib.save((nib.MGHImage if "mgz" in name else nib.Nifti1Image)(values, np.eye(4)), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / name), True)
    content = (tmp_path / name).read_bytes()
    for place in RNG.integers(len(content) // 3, len(content) - 8, 40):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(place) % 8
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(UserError):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NDims = 3", b"NDims = 2000000"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = %s%n.raw"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = ../other.raw"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = LIST"),
        (b"NDims", b"Comment = " + b"c" * 200_000 + b"\nNDims"),
        (b"NDims", b"Name = " + b"c" * 399 + b"\nNDims"),
        (b"DimSize = 14 18 16", b"DimSize = 99999 99999 99999"),
        (b"DimSize = 14 18 16", b"DimSize = 14 18 17"),
    ],
)
def test_a_header_that_itk_must_not_see(old, new, tmp_path):
    values = np.ascontiguousarray(NOISE.astype(np.int16))
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mha"))
    content = (tmp_path / "a.mha").read_bytes()
    assert old in content
    (tmp_path / "a.mha").write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / "a.mha")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [b"k" * 5000, b"data file: ../a.raw", b"data file: a%03d.raw 1 9 1", b"type: float"])
def test_a_nrrd_header_that_itk_must_not_see(line, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(NOISE.astype(np.int16)), str(tmp_path / "a.nrrd"))
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(content.replace(b"\n\n", b"\n" + line + b"\n\n", 1))
    with pytest.raises(UserError):
        read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-left-handed", "left-posterior-superior"])
def test_what_itk_leaves_out_of_a_nrrd_header_is_told(space, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(NOISE.astype(np.int16)), str(tmp_path / "a.nrrd"))
    content = (tmp_path / "a.nrrd").read_bytes()
    assert content.count(b"space: left-posterior-superior\n") == 1
    content = content.replace(b"space: left-posterior-superior\n", f"space: {space}\n".encode())
    (tmp_path / "a.nrrd").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.nrrd")
    told = [warning for warning in caught if "Look where left and right are" in str(warning.message)]
    assert len(told) == (0 if space == "left-posterior-superior" else 1)
    in_cm = content.replace(b"\n\n", b'\nspace units: "cm" "cm" "cm"\n\n', 1)
    (tmp_path / "cm.nrrd").write_bytes(in_cm)
    with pytest.raises(UserError, match="not in mm"):
        read_image(tmp_path / "cm.nrrd")
    (tmp_path / "mm.nrrd").write_bytes(in_cm.replace(b'"cm"', b'"mm"'))
    if space == "left-posterior-superior":
        assert torch.equal(read_image(tmp_path / "mm.nrrd").data, read_image(tmp_path / "a.nrrd").data)


def test_a_small_file_that_claims_or_unpacks_to_much(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((3000, 3000, 3000))
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(100))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(100)))
    small = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes()
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(small + bytes(40 << 20)))
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        for read in (read_image, read_series):
            with pytest.raises(UserError, match=r"more than|truncated"):
                read(tmp_path / name)


def test_units_that_nifti_does_not_have(tmp_path):
    image = nib.Nifti1Image(NOISE.astype(np.int16), np.diag([2.0, 2, 2, 1]))
    image.header["xyzt_units"] = 5
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(InputWarning, match="unit"):
        np.testing.assert_allclose(read_image(tmp_path / "a.nii").grid.zooms, 2)


def test_a_zip_whose_content_does_not_unpack(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", NOISE.astype(np.int16).tobytes())
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a zip file that can be unpacked"):
        read_image(Path(path))
