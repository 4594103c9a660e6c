"""Dense warps of other programs, by the intent in their headers: absolute against relative, LPS against RAS."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from grids import GRIDS
from spatial_cases import known_affine, smooth_field
from transform_cases import sentence
from uresnet.core.grid import Grid
from uresnet.errors import InputWarning
from uresnet.transform import Composite
from uresnet.transform_files import FileKind, read_transform, write_warp

LPS = np.array([-1.0, -1.0, 1.0])


def nodes(grid: Grid) -> np.ndarray:
    return grid.points_to_world(np.moveaxis(np.indices(grid.shape, dtype=np.float64), 0, -1).reshape(-1, 3))


def arrived(grid: Grid) -> np.ndarray:
    """(N, 3): where the voxels go, by an affine and a deformation."""
    transform = Composite([smooth_field(grid, 0.5), known_affine()])
    return transform.apply(torch.from_numpy(nodes(grid))).numpy()


def save_vectors(path: Path, vectors: np.ndarray, grid: Grid, code: int, name: str = "", kind: float = 0, **fields):
    image = nib.Nifti1Image(vectors.reshape(*grid.shape, 1, 3).astype(np.float32), grid.voxel_to_world)
    image.header.set_intent(code, name=name)
    image.header["intent_p1"] = kind
    for field, value in fields.items():
        image.header[field] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", GRIDS)
def test_positions_and_displacements_of_other_programs(name, tmp_path):
    """SPM: positions, RAS. NiftyReg: positions or displacements, RAS. ITK: displacements, LPS. FreeSurfer: RAS."""
    grid = GRIDS[name]
    start, end = nodes(grid), arrived(grid)
    for intent, vectors in (
        ((1007, "Mapping"), end),
        ((1007, "NREG_TRANS", 0), end),
        ((1007, "NREG_TRANS", 1), end - start),
        ((1007,), (end - start) * LPS),
        ((1006,), end - start),
    ):
        path = save_vectors(tmp_path / "w.nii", vectors, grid, *intent)
        found = read_transform(path).apply(torch.from_numpy(start)).numpy()
        np.testing.assert_allclose(found, end, atol=2e-4)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("axes", [LPS, 1])
def test_positions_that_are_called_displacements(name, axes, tmp_path):
    grid = GRIDS[name]
    path = save_vectors(tmp_path / "w.nii", arrived(grid) * axes, grid, 1007)
    assert "positions" in sentence(read_transform, path)
    path = save_vectors(tmp_path / "w.nii", arrived(grid) * axes, grid, 0)
    assert "positions" in sentence(read_transform, path, FileKind("nifti"))


def fsl_coordinates(grid: Grid, world: np.ndarray) -> np.ndarray:
    """Voxels times their size, mm, x from the other end where the voxels' axes are right-handed."""
    scaled = grid.points_to_voxel(world) * grid.zooms
    if np.linalg.det(grid.voxel_to_world[:3, :3]) > 0:
        scaled[:, 0] = (grid.shape[0] - 1) * grid.zooms[0] - scaled[:, 0]
    return scaled


@pytest.mark.parametrize("moving", GRIDS)
@pytest.mark.parametrize("fixed", GRIDS)
@pytest.mark.filterwarnings("error::uresnet.errors.InputWarning")
def test_fsl_warps_are_relative_or_absolute_without_doubt(fixed, moving, tmp_path):
    """Whatever the orientations of the two images, which the standard deviations of FSL's tools get wrong."""
    start, end = nodes(GRIDS[fixed]), arrived(GRIDS[fixed])
    positions = fsl_coordinates(GRIDS[moving], end)
    for vectors in (positions, positions - fsl_coordinates(GRIDS[fixed], start)):
        path = save_vectors(tmp_path / "w.nii", vectors, GRIDS[fixed], 2006)
        back = read_transform(path, FileKind("fsl", GRIDS[fixed], GRIDS[moving])).apply(torch.from_numpy(start))
        np.testing.assert_allclose(back.numpy(), end, atol=1e-3)


@pytest.mark.parametrize(("factor", "word", "read"), [(-0.5, "relative", 0.5), (0.6, "absolute", 0.6)])
def test_an_fsl_warp_that_could_be_either_is_said_aloud(factor, word, read, tmp_path):
    """-0.5 x makes sizes 0.5 times in both readings; 0.6 x makes them 0.6 or 1.6 times, and the second leaves the
    moving image."""
    grid = GRIDS["LAS"]
    own = fsl_coordinates(grid, nodes(grid))
    path = save_vectors(tmp_path / "w.nii", factor * own, grid, 2006)
    with pytest.warns(InputWarning, match=f"could be either; taken as {word}"):
        found = read_transform(path, FileKind("fsl", grid, grid)).apply(torch.from_numpy(nodes(grid))).numpy()
    np.testing.assert_allclose(fsl_coordinates(grid, found), read * own, atol=1e-3)


@pytest.mark.parametrize(
    ("intent", "word"),
    [
        ((1007, "NREG_TRANS", 5), "reg_transform"),
        ((1007, "NREG_CPP_FILE"), "reg_transform"),
        ((1007, "Velocity"), "velocity"),
        ((1007, "Something"), "format="),
        ((1008,), "intent code 1008"),
        ((2007,), "fnirtfileutils"),
        ((2016,), "spline"),
    ],
)
def test_what_is_no_map_or_does_not_say(intent, word, tmp_path):
    grid = GRIDS["oblique"]
    assert word in sentence(read_transform, save_vectors(tmp_path / "w.nii", np.zeros((1386, 3)), grid, *intent))


def test_a_flow_is_told_by_its_description(tmp_path):
    grid = GRIDS["LAS"]
    path = save_vectors(tmp_path / "w.nii", nodes(grid) * 0, grid, 1007, descrip=b"DARTEL flow field")
    assert "flow" in sentence(read_transform, path)


def test_what_a_file_says_is_not_overruled(tmp_path):
    grid = GRIDS["RAS"]
    path = save_vectors(tmp_path / "w.nii", arrived(grid), grid, 1007, "Mapping")
    assert "Mapping" in sentence(read_transform, path, FileKind("nifti"))


def test_vectors_on_a_grid_in_metres_are_refused(tmp_path):
    grid = GRIDS["LPS"]
    small = Grid(grid.shape, np.diag([1e-3, 1e-3, 1e-3, 1]) @ grid.voxel_to_world * np.array([10, 10, 10, 1]))
    path = save_vectors(tmp_path / "w.nii", nodes(grid) * 0, small, 1007, xyzt_units=1)
    assert "not in millimetres" in sentence(read_transform, path)


def test_freesurfers_own_part_of_the_header_is_believed(tmp_path):
    """Tag 13 of extension 14 says what the vectors are: 3 is RAS displacements, 2 RAS positions."""
    grid = GRIDS["RAS"]
    path = save_vectors(tmp_path / "w.nii", arrived(grid) - nodes(grid), grid, 1006)
    image = nib.Nifti1Image.from_filename(path)
    for kind in (3, 2):
        numbers = [0x3E000001, 13, 0, 12, kind, 1, 0]
        content = b"".join(number.to_bytes(4, "big") for number in numbers)
        image.header.extensions[:] = [nib.nifti1.Nifti1Extension(14, content)]
        nib.save(image, tmp_path / f"{kind}.nii")
    read_transform(tmp_path / "3.nii")
    assert "voxels or positions" in sentence(read_transform, tmp_path / "2.nii")


# -- damage --------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_compressed_warp_is_found(tmp_path):
    grid = GRIDS["oblique"]
    field = smooth_field(grid)
    write_warp(field, grid, tmp_path / "w.nii.gz")
    whole = (tmp_path / "w.nii.gz").read_bytes()
    drawn = np.random.default_rng(0).integers(10, len(whole), 60)  # after gzip's own header: its time may be anything
    for n, byte in enumerate(drawn):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << n % 8
        (tmp_path / "f.nii.gz").write_bytes(flipped)
        assert "f.nii.gz" in sentence(read_transform, tmp_path / "f.nii.gz"), byte


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_warp_that_claims_gigabytes(ending, tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_intent(1007)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for shape, word in (((700, 700, 700, 1, 3), "does not hold them"), ((30000, 30000, 2, 1, 3), "does not hold them")):
        header.set_data_shape(shape)
        content = header.binaryblock + bytes(52)
        path = tmp_path / f"w{ending}"
        path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
        assert word in sentence(read_transform, path)


def test_a_warp_with_more_behind_it_than_it_says(tmp_path):
    grid = GRIDS["RAS"]
    content = save_vectors(tmp_path / "w.nii", nodes(grid) * 0, grid, 1007).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + bytes(20 << 20), 1))
    assert "much more" in sentence(read_transform, tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    "fields",
    [
        {"vox_offset": np.inf},
        {"vox_offset": -16},
        {"datatype": 9999},
        {"datatype": 32, "bitpix": 64},
        {"datatype": 128, "bitpix": 24},
        {"srow_x": np.nan, "sform_code": 1},
        {"scl_slope": 1e38},
        {"dim": [5, 10, -3, 10, 1, 3, 1, 1]},
        {"dim": [5, 0, 3, 10, 1, 3, 1, 1]},
        {"dim": [7, 12, 15, 10, 1, 3, 2, 1]},
    ],
    ids=str,
)
def test_damaged_headers(fields, tmp_path):
    grid = GRIDS["RAS"]
    save_vectors(tmp_path / "w.nii", nodes(grid) * 0 + 1e3, grid, 1007)
    content = bytearray((tmp_path / "w.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    (tmp_path / "w.nii").write_bytes(content)
    assert "w.nii" in sentence(read_transform, tmp_path / "w.nii")


def test_a_unit_that_nifti_does_not_have_is_said(tmp_path):
    grid = GRIDS["RAS"]
    path = save_vectors(tmp_path / "w.nii", nodes(grid) * 0, grid, 1007, xyzt_units=7)
    with pytest.warns(InputWarning, match="millimetres"):
        read_transform(path)


def test_a_displacement_of_kilometres_is_damage(tmp_path):
    grid = GRIDS["RAS"]
    vectors = nodes(grid) * 0
    vectors[7, 1] = -2e38
    assert "metres" in sentence(read_transform, save_vectors(tmp_path / "w.nii", vectors, grid, 1007))
