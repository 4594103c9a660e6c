"""DICOM folders and zips: files written by pydicom, and those of five makers, against the image they were made from."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from typer.testing import CliRunner

from brains import FIELDS_OF_VIEW, brain_on
from dicom_files import ROOT, content_of, frames_of, packed, slice_of, write_dicom, write_slices
from spatial_cases import grid_of
from uresnet.cli.main import app
from uresnet.core.grid import Grid
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_grid, read_image, read_series
from uresnet.io.dicom_pixels import read_pixels

GRID = grid_of("oblique", shape=(20, 16, 7), zooms=(1.5, 1.5, 4.0))
VALUES = np.random.default_rng(0).integers(0, 900, GRID.shape).astype(np.int16)
ALL = tuple(range(GRID.shape[2]))


def slices(of=ALL, series: int = 1, name: str = "T1"):
    return [slice_of(VALUES, GRID, k, series, name) for k in of]


def check_same_image(path: Path | str, values: np.ndarray = VALUES, grid: Grid = GRID) -> None:
    """The values at the places in the world where they are in ``grid``, whichever end the reader starts from."""
    image = read_image(path)
    where = image.grid.points_to_voxel(grid.points_to_world(np.argwhere(np.ones(grid.shape))))
    assert np.abs(where - np.rint(where)).max() < 1e-3
    found = image.data.numpy()[tuple(np.rint(where).astype(int).T)].reshape(grid.shape)
    np.testing.assert_array_equal(found, values)


def write_zip(folder: Path, archive: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, inside + path.name)
    return archive


def test_a_zip_from_standard_input(tmp_path):
    archive = write_zip(write_slices(slices(), tmp_path / "series"), tmp_path / "series.zip")
    np.savetxt(tmp_path / "a.txt", np.eye(4))
    nib.save(nib.Nifti1Image(VALUES, GRID.voxel_to_world), tmp_path / "like.nii.gz")
    line = ["apply", f"{tmp_path}/a.txt", "-", "--like", f"{tmp_path}/like.nii.gz", "-o", "-", "--from", "greedy"]
    done = CliRunner().invoke(app, line, input=archive.read_bytes())
    assert done.exit_code == 0, done.stderr
    found = nib.Nifti1Image.from_bytes(gzip.decompress(done.stdout_bytes)).get_fdata()
    apart = np.abs(found - VALUES)[1:-1, 1:-1, 1:-1]  # at the faces a rounding error is outside
    assert apart.max() <= 1


@pytest.mark.parametrize("kind", ["folder", "zip", "file", "without a preamble", "JPEG", "JPEG2000", "RLE"])
def test_a_series_is_the_image_it_was_made_from(tmp_path, kind, recwarn):
    path = write_slices(slices(), tmp_path / "series")
    if kind == "zip":
        path = write_zip(path, tmp_path / "series.zip", "deep/")
    elif kind == "file":
        path = next(path.iterdir())
    elif kind == "without a preamble":
        for k, one in enumerate(slices()):
            content = content_of(one)
            (path / f"{(k * 5) % 97}.dcm").unlink()
            (path / f"I{k}").write_bytes(content[content.index(b"\x08\x00\x08\x00CS") :])
    elif kind == "RLE":
        for k, one in enumerate(slices()):
            one.compress(RLELossless, generate_instance_uid=False)
            write_dicom(one, path / f"{(k * 5) % 97}.dcm")
    elif kind.startswith("JPEG"):
        for file in path.iterdir():
            packed(file, kind, apart=4.0)
    check_same_image(path)
    assert not [one for one in recwarn if issubclass(one.category, InputWarning)]
    assert read_grid(path).same_as(read_image(path).grid) and read_series(path).stored == np.int16


@pytest.mark.parametrize("order", [ALL, ALL[::-1], (3, 0, 5, 1, 6, 2, 4)], ids=["rising", "falling", "mixed"])
def test_frames_lie_where_each_of_them_says(tmp_path, order):
    check_same_image(write_dicom(frames_of(VALUES, GRID, order), tmp_path / "frames.dcm"))


def test_the_factor_of_a_slice_is_its_own(tmp_path):
    scaled = slices()
    for k, one in enumerate(scaled):
        one.RescaleSlope, one.RescaleIntercept = ("1", "0") if k == 0 else (f"{0.5 + k}", "-3.25")
    factors = np.array([1.0, *(0.5 + np.arange(1, 7))]), np.array([0.0] + [-3.25] * 6)
    expected = (VALUES * factors[0] + factors[1]).astype(np.float32)
    check_same_image(write_slices(scaled, tmp_path / "series"), expected)
    frames = frames_of(VALUES, GRID)
    scaling = frames.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    scaling.RescaleSlope, scaling.RescaleIntercept = "2.5", "-10"
    check_same_image(write_dicom(frames, tmp_path / "frames.dcm"), VALUES * np.float32(2.5) - 10)


def test_bits_beside_the_values_are_no_values(tmp_path):
    """12 bits in words of 16, with a sign and without, the upper four in use for something else."""
    for sign in (0, 1):
        low = (VALUES % 4096 if not sign else VALUES - 450).astype(np.int16)
        noisy = slices()
        for k, one in enumerate(noisy):
            words = np.ascontiguousarray(low[:, :, k].T).view(np.uint16) & 0x0FFF
            one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, sign
            one.PixelData = (words | np.uint16(0xA000)).tobytes()
        check_same_image(write_slices(noisy, tmp_path / str(sign)), low)


def test_two_series_are_listed_with_how_to_choose_and_the_chosen_one_is_named(tmp_path):
    write_slices([*slices(name="T1 mprage"), *slices(ALL[1:6], 2, "T2 flair")], tmp_path / "both")
    with pytest.raises(UserError, match=r"2 series \(#1 T1 mprage, 7 files; #2 T2 flair, 5 files\).*both#1") as caught:
        read_image(tmp_path / "both")
    assert "\n" not in str(caught.value)
    assert read_image(f"{tmp_path}/both#1").data.shape == (20, 16, 7)
    second = read_image(f"{tmp_path}/both#2")
    assert second.data.shape == (20, 16, 5)
    assert second.chosen == "DICOM series T2 flair (1.2.826.0.1.3680043.2.1125.2), 5 files"
    with pytest.raises(UserError, match="choose 1 to 2"):
        read_image(f"{tmp_path}/both#3")


def test_copies_of_a_file_are_used_once(tmp_path):
    folder = write_slices(slices(), tmp_path / "series")
    (folder / "0 (1).dcm").write_bytes((folder / "0.dcm").read_bytes())
    with pytest.warns(InputWarning, match=r"copies of its own files \(0.dcm\)|copies of its own files \(0 \(1\).dcm\)"):
        check_same_image(folder)
    other = slice_of(VALUES + 1, GRID, 0)
    write_dicom(other, folder / "0 (1).dcm")
    with pytest.raises(UserError, match=r"two different files of one image \(0 \(1\).dcm, 0.dcm\)"):
        read_image(folder)


def test_what_no_volume_can_be_made_of(tmp_path):
    with pytest.raises(UserError, match="lacks slices"):
        read_image(write_slices(slices((0, 1, 2, 4, 5, 6)), tmp_path / "gap"))
    echo = slice_of(VALUES, GRID, 2)
    echo.SOPInstanceUID += ".1"
    with pytest.raises(UserError, match="several slices at one place"):
        read_image(write_slices([*slices(), echo], tmp_path / "echoes"))
    times = frames_of(VALUES, GRID, (0, 1, 2, 0, 1, 2))
    with pytest.raises(UserError, match="several slices at one place"):
        read_image(write_dicom(times, tmp_path / "times.dcm"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="without a DICOM"):
        read_image(tmp_path / "empty")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(UserError, match="not a zip"):
        read_image(tmp_path / "bad.zip")


def test_what_may_be_missing_or_wrong_is_said(tmp_path):
    thin = slices((0, 2, 4, 6))
    for one in thin:
        one.SpacingBetweenSlices = "4"
    with pytest.warns(InputWarning, match=r"8.00 mm apart, and its headers say 4.00 mm"):
        read_image(write_slices(thin, tmp_path / "every second"))
    nowhere = slices()
    for one in nowhere:
        del one.ImagePositionPatient, one.ImageOrientationPatient
    with pytest.warns(InputWarning, match="does not say where its slices lie"):
        image = read_image(write_slices(nowhere, tmp_path / "nowhere"))
    assert not image.oriented
    alone = frames_of(VALUES, GRID)
    del alone.PerFrameFunctionalGroupsSequence, alone.SharedFunctionalGroupsSequence
    first = slice_of(VALUES, GRID, 0)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        setattr(alone, name, getattr(first, name))
    alone.SliceThickness = "4"
    with pytest.warns(InputWarning, match="thickness of its slices only"):
        image = read_image(write_dicom(alone, tmp_path / "thickness" / "1.dcm"))
    np.testing.assert_allclose(image.grid.zooms, GRID.zooms, rtol=1e-6)
    inverted = slices()
    for one in inverted:
        one.PhotometricInterpretation = "MONOCHROME1"
    with pytest.warns(InputWarning, match="inverted"):
        read_image(write_slices(inverted, tmp_path / "inverted"))
    folder = write_slices(slices(), tmp_path / "renamed")
    (folder / "0.dcm").rename(folder / "IM0001")
    (folder / "IM0001").write_bytes(b"\xff" * 140 + (folder / "IM0001").read_bytes()[140:])
    with pytest.warns(InputWarning, match=r"not DICOM, and are left out \(IM0001\)"):
        read_image(folder)


def damaged(content: bytes) -> dict[str, bytes]:
    """What is wrong with a file, and its bytes."""
    pixels = content.rindex(b"\xe0\x7f\x10\x00OW")
    return {
        "cut in the pixels": content[:-100],
        "cut before the pixels": content[:pixels],
        "cut in the header": content[:400],
        "empty": b"",
        "an element of 3 GB": content[:pixels] + b"\x09\x00\x10\x00OB\0\0" + struct.pack("<I", 3 << 30) + b"abc",
        "pixels of 4 GB": content[: pixels + 8] + struct.pack("<I", 0xFFFFFFF0) + content[pixels + 12 :],
        "another file": b"nothing of the kind",
    }


@pytest.mark.parametrize("what", list(damaged(content_of(slice_of(VALUES, GRID, 0)))))
@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_damaged_slice_is_never_left_out(tmp_path, what, k):
    folder = write_slices(slices((0, 1, 2)), tmp_path / "series")  # without any of them, the others are even
    file = folder / f"{k * 5}.dcm"
    file.write_bytes(damaged(file.read_bytes())[what])
    with pytest.raises(UserError, match=rf"^{k * 5}.dcm in .*series is (truncated|damaged).*, or remove it"):
        read_image(folder)


def test_damage_in_another_series_does_no_harm(tmp_path):
    write_slices([*slices(), *slices((0, 1), 2)], tmp_path / "both")
    file = tmp_path / "both" / "35.dcm"
    file.write_bytes(file.read_bytes()[:-100])
    check_same_image(f"{tmp_path}/both#1")
    with pytest.raises(UserError, match=r"35.dcm .* is truncated"):
        read_image(f"{tmp_path}/both#2")


def test_packed_pictures_of_another_size_never_get_to_their_decoder(tmp_path):
    marks = {"JPEG": (b"\xff\xc3", 5, ">HH"), "JPEG2000": (b"\xff\x4f\xff\x51", 8, ">II")}
    for compressor, (mark, after, layout) in marks.items():
        file = packed(write_dicom(slice_of(VALUES, GRID, 0), tmp_path / f"{compressor}.dcm"), compressor)
        content = bytearray(file.read_bytes())
        struct.pack_into(layout, content, content.rindex(mark) + after, 60000, 60000)  # 7 GB of int16
        file.write_bytes(content)
        with pytest.raises(UserError, match="not of the size that its header says"):
            read_image(file)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path):
    one = slice_of(VALUES, GRID, 0)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(UserError, match="stored deflated"):
        read_image(write_dicom(one, tmp_path / "one.dcm"))


MAKERS = ("ge", "hitachi", "hyperfine", "siemens_multiframe")
SERIES = [f"{maker}/anatomical/001" for maker in MAKERS] + [f"{maker}/anatomical/001_implicit" for maker in MAKERS[:2]]


@pytest.mark.real
@pytest.mark.parametrize("name", SERIES)
def test_the_series_of_a_maker_is_the_image_beside_it(shared_data, name):
    folder = shared_data / "dicom" / name
    truth = nib.Nifti1Image.from_filename(folder.with_name(f"{folder.name}_ground_truth.nii.gz"))
    i, j, k = truth.shape
    check_same_image(folder, np.asarray(truth.dataobj), Grid((i, j, k), truth.affine))


@pytest.mark.real
def test_what_a_maker_packs_into_one_picture_ends_in_a_sentence(shared_data):
    folder = shared_data / "dicom" / "nine_transfer_syntaxes"
    for path in [folder, *folder.iterdir()]:
        if path.is_file():  # nine transfer syntaxes: the same pixels
            np.testing.assert_array_equal(read_pixels(pydicom, path), sitk.GetArrayFromImage(sitk.ReadImage(path)))
        with pytest.raises(UserError, match="holds a mosaic of slices"):
            read_image(path)
    with pytest.raises(UserError, match="give a 3D image"):
        read_image(shared_data / "dicom" / "ge" / "anatomical" / "001_single_slice")


def test_the_record_of_a_run_names_the_series(tmp_path, tiny_model):
    """A brain in two series; the second is segmented by the command."""
    grid = FIELDS_OF_VIEW["LAS"]
    brain = brain_on(grid).astype(np.int16)
    both = [
        slice_of(values, grid, k, n, name)
        for n, name, values in ((1, "T1 first", brain // 2), (2, "T1 second", brain))
        for k in range(grid.shape[2])
    ]
    folder = write_slices(both, tmp_path / "both")
    line = [
        "segment",
        f"{folder}#2",
        "-o",
        f"{tmp_path}/dseg.nii.gz",
        "--model",
        str(tiny_model),
        "--brain",
        "none",
        "--no-report",
    ]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "dseg_run.json").read_text(encoding="utf-8"))
    assert record["inputs"]["image"]["path"] == f"{folder}#2"
    assert record["inputs"]["image"]["notes"][0] == f"DICOM series T1 second ({ROOT}.2), 40 files"
