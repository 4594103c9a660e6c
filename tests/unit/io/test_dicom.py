"""DICOM folders and zips, written slice by slice with SimpleITK, against the image they were made from."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from spatial_cases import grid_of
from uresnet.cli.main import app
from uresnet.core.grid import Grid
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_grid, read_image, read_series

GRID = grid_of("oblique", shape=(20, 16, 7), zooms=(1.5, 1.5, 4.0))
VALUES = np.random.default_rng(0).integers(0, 900, GRID.shape).astype(np.int16)


def write_series(folder: Path, uid: int = 1, name: str = "T1", skip: tuple[int, ...] = (), again: bool = False) -> Path:
    """Slices along the last axis, in files whose names are in no order."""
    folder.mkdir(exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ GRID.voxel_to_world
    axes = lps[:3, :3] / GRID.zooms
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in [k for k in range(GRID.shape[2]) if k not in skip] + ([2] if again else []):
        image = sitk.GetImageFromArray(np.ascontiguousarray(VALUES[:, :, k].T)[None])
        image.SetSpacing(GRID.zooms.tolist())
        numbers = {"0020|0032": lps[:3] @ [0, 0, k, 1], "0020|0037": axes[:, :2].T.ravel()}
        for tag, value in numbers.items():
            image.SetMetaData(tag, "\\".join(f"{v:.10g}" for v in value))
        series = f"1.2.826.0.1.3680043.2.1125.{uid}"
        number = k + (100 if again and (folder / f"{uid}_{(k * 5) % 97}.dcm").exists() else 0)
        words = {"0008|0060": "MR", "0020|000e": series, "0020|000d": "1.2.826.0.1.3680043.2.1125.9"}
        words |= {"0008|103e": name, "0020|0013": str(number + 1), "0008|0018": f"{series}.{number + 1}"}
        for tag, word in words.items():
            image.SetMetaData(tag, word)
        writer.SetFileName(str(folder / f"{uid}_{(number * 5) % 97}.dcm"))
        writer.Execute(image)
    return folder


def test_a_zip_from_standard_input(tmp_path):
    folder = write_series(tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    np.savetxt(tmp_path / "a.txt", np.eye(4))
    like = nib.Nifti1Image(VALUES, GRID.voxel_to_world)
    nib.save(like, tmp_path / "like.nii.gz")
    line = [
        "apply",
        str(tmp_path / "a.txt"),
        "-",
        "--like",
        str(tmp_path / "like.nii.gz"),
        "-o",
        "-",
        "--from",
        "greedy",
    ]
    done = CliRunner().invoke(app, line, input=(tmp_path / "series.zip").read_bytes())
    assert done.exit_code == 0, done.stderr
    found = nib.Nifti1Image.from_bytes(gzip.decompress(done.stdout_bytes)).get_fdata()
    apart = np.abs(found - VALUES)[1:-1, 1:-1, 1:-1]  # at the faces a rounding error is outside
    assert apart.max() <= 1


def as_stored(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Values at the voxels of GRID, whichever end the reader starts from."""
    voxels = np.rint(grid.points_to_voxel(GRID.points_to_world(np.argwhere(np.ones(GRID.shape))))).astype(int)
    return image[tuple(voxels.T)].reshape(GRID.shape)


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
def test_a_series_is_the_image_it_was_made_from(tmp_path, kind):
    path = write_series(tmp_path / "series")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
            for file in path.iterdir():
                archive.write(file, f"deep/{file.name}")
        path = tmp_path / "series.zip"
    elif kind == "file":
        path = next(path.iterdir())
    image = read_image(path)
    np.testing.assert_array_equal(as_stored(image.data.numpy(), image.grid), VALUES)
    order = np.sort(np.linalg.norm(image.grid.corners_world[:, None] - GRID.corners_world[None], axis=-1), axis=1)
    assert order[:, 0].max() < 1e-3  # the same box in the world
    assert read_grid(path).same_as(image.grid) and read_series(path).stored == np.int16


def test_two_series_are_listed_with_how_to_choose(tmp_path):
    write_series(tmp_path / "both", 1, "T1 mprage")
    write_series(tmp_path / "both", 2, "T2 flair", skip=(0, 6))
    with pytest.raises(UserError, match=r"2 series \(#1 T1 mprage, 7 files; #2 T2 flair, 5 files\).*both#1") as caught:
        read_image(tmp_path / "both")
    assert "\n" not in str(caught.value)
    assert read_image(f"{tmp_path}/both#1").data.shape == (20, 16, 7)
    assert read_image(f"{tmp_path}/both#2").data.shape == (20, 16, 5)
    with pytest.raises(UserError, match="choose 1 to 2"):
        read_image(f"{tmp_path}/both#3")


def test_what_no_volume_can_be_made_of(tmp_path):
    with pytest.raises(UserError, match="lacks slices"):
        read_image(write_series(tmp_path / "gap", skip=(3,)))
    with pytest.raises(UserError, match="several slices at one place"):
        read_image(write_series(tmp_path / "echoes", again=True))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="without a DICOM"):
        read_image(tmp_path / "empty")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(UserError, match="not a zip"):
        read_image(tmp_path / "bad.zip")


def test_nothing_is_warned_about_in_a_sound_series(tmp_path, recwarn):
    read_image(write_series(tmp_path / "series"))
    assert not [one for one in recwarn if issubclass(one.category, InputWarning)]
