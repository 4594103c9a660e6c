"""Damaged matrices, composites and FreeSurfer files: one sentence that names the file, whatever the damage."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy import io as matlab

from spatial_cases import known_affine
from transform_cases import FIXED, MOVING, TRANSFORM, sentence
from uresnet.errors import UserError
from uresnet.transform import Affine
from uresnet.transform_files import read_transform, write_itk_affine, write_transform

ASCII = h5py.string_dtype("ascii")


def one_group(file: h5py.File, kind: object = "AffineTransform_double_3_3") -> h5py.Group:
    group = file.create_group("TransformGroup/0")
    group["TransformType"] = np.array([kind], dtype=ASCII) if isinstance(kind, str) else kind
    group["TransformFixedParameters"] = np.zeros(3)
    return group


def claims_gigabytes(file: h5py.File) -> None:
    group = one_group(file, "DisplacementFieldTransform_double_3_3")
    del group["TransformFixedParameters"]
    group["TransformFixedParameters"] = [*[700.0] * 3, *[0.0] * 3, *[1.0] * 3, *np.eye(3).ravel()]
    group.create_dataset("TransformParameters", (3 * 700**3,), "f4", chunks=(1 << 18,), compression="gzip")


def external_values(file: h5py.File) -> None:
    one_group(file).create_dataset("TransformParameters", (12,), "f8", external=[("/etc/passwd", 0, 96)])


def virtual_values(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((12,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (12,))
    one_group(file).create_virtual_dataset("TransformParameters", layout)


def of_another_type(file: h5py.File) -> None:
    one_group(file)["TransformParameters"] = np.array(["a"] * 12, dtype=ASCII)


def without_centre(file: h5py.File) -> None:
    group = one_group(file)
    group["TransformParameters"] = np.arange(12.0)
    del group["TransformFixedParameters"]


def a_group_for_a_dataset(file: h5py.File) -> None:
    one_group(file).create_group("TransformParameters")


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (claims_gigabytes, "does not hold them"),
        (external_values, "does not hold its TransformParameters itself"),
        (virtual_values, "does not hold its TransformParameters itself"),
        (of_another_type, "not numbers"),
        (without_centre, "centre"),
        (a_group_for_a_dataset, "TransformParameters"),
        (lambda file: one_group(file, 3.0), "of which type"),
        (lambda file: one_group(file, "A" * 100_000), "AAA … AAA"),
        (lambda file: file.create_dataset("TransformGroup", (3,)), "no group"),
        (lambda file: file.create_dataset("TransformGroup/0", (3,)), "of which type"),
        (lambda file: file.create_group("TransformGroup/first"), "cannot be read"),
        (lambda file: file.create_group("TransformGroup"), "empty"),
    ],
)
def test_hdf5_of_another_kind(write: Callable[[h5py.File], object], word: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        write(file)
    found = sentence(read_transform, tmp_path / "d.h5")
    assert word in found and len(found) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("place", ["TransformGroup", "TransformGroup/1", "TransformGroup/1/TransformParameters"])
def test_no_link_of_hdf5_is_followed(place: str, files: Path) -> None:
    for link in (h5py.ExternalLink(str(files / "t.h5"), place), h5py.SoftLink("/elsewhere")):
        (files / "d.h5").write_bytes((files / "t.h5").read_bytes())
        with h5py.File(files / "d.h5", "r+") as file:
            file.move(place, "elsewhere")
            file[place] = link
        assert "not followed" in sentence(read_transform, files / "d.h5")


# -- text and MATLAB -----------------------------------------------------------------------------------------------

ITK_TEXT = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}_double_3_3\nParameters: {}\nFixedParameters: {}\n"
IDENTITY = "1 0 0 0 1 0 0 0 1 0 0 0"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (ITK_TEXT.format("AffineTransform", IDENTITY, "0 0 0").rsplit("\n", 2)[0], "truncated"),
        (ITK_TEXT.format("AffineTransform", IDENTITY, ""), "centre"),
        (ITK_TEXT.format("AffineTransform", IDENTITY[:-2], "0 0 0"), "11 parameters"),
        (ITK_TEXT.format("ScaleVersor3DTransform", "0 0 0 0 0 0 1 1", "0 0 0"), "8 parameters"),
        (ITK_TEXT.format("AffineTransform", IDENTITY.replace("1", "nan"), "0 0 0"), "finite"),
        (ITK_TEXT.format("AffineTransform", IDENTITY.replace("1", "1e999"), "0 0 0"), "finite"),
        (ITK_TEXT.format("AffineTransform", IDENTITY.replace("1", "1_0"), "0 0 0"), "not a number"),
        (ITK_TEXT.format("VersorRigid3DTransform", "9e200 9e200 9e200 0 0 0", "0 0 0"), "t.tfm"),
        (ITK_TEXT.format("B" * 100_000, IDENTITY, "0 0 0"), "not supported"),
        (ITK_TEXT.format("DisplacementFieldTransform", "1 2 3", "9e9 9e9 9e9 " + "1 " * 15), "does not fit"),
    ],
)
def test_damaged_itk_text(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "t.tfm").write_text(text)
    found = sentence(read_transform, tmp_path / "t.tfm")
    assert word in found and len(found) < 300 + len(str(tmp_path))


def test_damaged_matlab(tmp_path: Path) -> None:
    """Every byte of the header of its first matrix; a newer MATLAB file, which may be compressed; text."""
    write_itk_affine(known_affine(), tmp_path / "a.mat")
    whole = (tmp_path / "a.mat").read_bytes()
    (sound,) = read_transform(tmp_path / "a.mat").parts
    assert isinstance(sound, Affine)
    for byte in range(46):
        for bit in (0, 5, 7):
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << bit
            (tmp_path / "f.mat").write_bytes(flipped)
            try:
                (found,) = read_transform(tmp_path / "f.mat").parts
            except UserError as error:
                assert "f.mat" in str(error)
            else:  # a bit that says nothing
                assert isinstance(found, Affine) and np.array_equal(found.matrix, sound.matrix), byte
    matlab.savemat(tmp_path / "v5.mat", {"AffineTransform_double_3_3": np.zeros((12, 1))}, do_compression=True)
    assert "newer MATLAB" in sentence(read_transform, tmp_path / "v5.mat")
    matlab.savemat(tmp_path / "s.mat", {"AffineTransform_double_3_3": "hello", "fixed": np.zeros(3)}, format="4")
    assert "s.mat" in sentence(read_transform, tmp_path / "s.mat")


# -- FreeSurfer ----------------------------------------------------------------------------------------------------

LTA = "type = {}\nnxforms = 1\n1 4 4\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n{}"
GEOMETRY = (
    "{} volume info\nvalid = 1\nfilename = x\nvolume = {}\nvoxelsize = {}\nxras = 1 0 0\nyras = 0 1 0\nzras = {}\n"
    "cras = {}\n"
)
SOUND = ("5 6 7", "1 1 1", "0 0 1", "0 0 0")


@pytest.mark.parametrize(
    "geometry",
    [
        ("inf 2 3", *SOUND[1:]),
        ("nan 2 3", *SOUND[1:]),
        ("1e400 2 3", *SOUND[1:]),
        ("1 2", *SOUND[1:]),
        ("0 2 3", *SOUND[1:]),
        ("5 6 7", "1 1", *SOUND[2:]),
        ("5 6 7", "0 1 1", *SOUND[2:]),
        ("5 6 7", "nan 1 1", *SOUND[2:]),
        (*SOUND[:2], "0 1 0", SOUND[3]),
        (*SOUND[:2], "0 1", SOUND[3]),
        (*SOUND[:3], "0 0"),
        (*SOUND[:3], "nan 0 0"),
    ],
)
def test_damaged_ltas_of_type_0(geometry: tuple[str, ...], tmp_path: Path) -> None:
    sound = LTA.format(0, GEOMETRY.format("src", *SOUND) + GEOMETRY.format("dst", *SOUND))
    (tmp_path / "a.lta").write_text(sound)
    np.testing.assert_allclose(read_transform(tmp_path / "a.lta").apply(_points()), _points())
    for which in ("src", "dst"):
        sides = dict.fromkeys(("src", "dst"), SOUND) | {which: geometry}
        (tmp_path / "a.lta").write_text(LTA.format(0, "".join(GEOMETRY.format(s, *g) for s, g in sides.items())))
        assert "a.lta" in sentence(read_transform, tmp_path / "a.lta")


def _points() -> torch.Tensor:
    return torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("offset", "content", "word"),
    [
        (4, struct.pack(">i", 2**30), "does not hold them"),
        (4, struct.pack(">i", -5), "dimensions"),
        (4, struct.pack(">i", 0), "dimensions"),
        (20, struct.pack(">i", 77), "cannot be read"),
        (30, bytes(12), "singular"),
        (42, struct.pack(">9f", *[np.nan] * 9), "singular"),
        (42, struct.pack(">9f", *[1.0] * 9), "singular"),
        (284, struct.pack(">f", np.nan), "finite"),
        (284, struct.pack(">f", np.inf), "finite"),
        (284, struct.pack(">f", 2e38), "metres"),
        (-12, struct.pack(">i", 9), "not known"),
    ],
)
def test_damaged_mgz_warps(offset: int, content: bytes, word: str, tmp_path: Path) -> None:
    write_transform(TRANSFORM, tmp_path / "w.mgz", fixed=FIXED, moving=MOVING)
    damaged = bytearray(gzip.decompress((tmp_path / "w.mgz").read_bytes()))
    start = offset % len(damaged)
    damaged[start : start + len(content)] = content
    (tmp_path / "w.mgz").write_bytes(gzip.compress(bytes(damaged), 1))
    assert word in sentence(read_transform, tmp_path / "w.mgz")


def test_flipped_bits_of_a_compressed_mgz_are_found(tmp_path: Path) -> None:
    write_transform(TRANSFORM, tmp_path / "w.mgz", fixed=FIXED, moving=MOVING)
    whole = (tmp_path / "w.mgz").read_bytes()
    for n, byte in enumerate(np.random.default_rng(1).integers(10, len(whole), 20)):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << n % 8
        (tmp_path / "f.mgz").write_bytes(flipped)
        assert "f.mgz" in sentence(read_transform, tmp_path / "f.mgz")
