"""What a header claims: believed, corrected with a warning, or refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from image_files import saved
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_grid, read_image


def test_no_orientation_is_assumed_with_a_warning(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.ones((3, 4, 5), np.float32), np.eye(4), q=0, s=0)
    with pytest.warns(InputWarning, match=r"a\.nii\.gz does not say how it is oriented"):
        image = read_image(path)
    assert not image.oriented
    np.testing.assert_allclose(image.grid.voxel_to_world, nib.Nifti1Image.from_filename(path).affine)


def test_two_orientations_that_differ_are_pointed_out(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4))
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(InputWarning, match="a qform and an sform that differ by up to 10 mm"):
        grid = read_grid(tmp_path / "a.nii")
    np.testing.assert_allclose(grid.voxel_to_world, np.diag([2.0, 2, 2, 1]))


def test_a_broken_sform_yields_to_the_qform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_sform(np.diag([2.0, 2, 0, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(InputWarning, match="broken sform"):
        np.testing.assert_allclose(read_grid(tmp_path / "a.nii").voxel_to_world, np.diag([2.0, 2, 2, 1]))


def test_analyze_is_read_with_a_warning_about_its_sides(tmp_path: Path) -> None:
    """The format has a voxel size but no directions: nibabel, like SPM, takes x to run to the left."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.save(nib.AnalyzeImage(values, np.diag([-2.0, 3, 4, 1])), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        with pytest.warns(InputWarning, match="does not say left from right"):
            image = read_image(tmp_path / name)
        assert image.grid.axis_codes == ("L", "A", "S") and not image.oriented
        np.testing.assert_allclose(image.grid.zooms, [2, 3, 4])
        np.testing.assert_array_equal(image.data, values)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0), ("unknown", 1.0)])
def test_the_unit_of_the_world_is_believed(tmp_path: Path, unit: str, scale: float) -> None:
    affine = np.diag([-2.0, 3, 4, 1])
    affine[:3, 3] = [60, -70, -50]
    image = nib.Nifti1Image(np.ones((60, 50, 40), np.int16), np.diag([scale, scale, scale, 1]) @ affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").grid.voxel_to_world, affine, rtol=1e-6)


def test_a_unit_that_cannot_be_is_not(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((60, 50, 40), np.int16), np.diag([-2.0, 3, 4, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(InputWarning, match="says that it is in meters"):
        np.testing.assert_allclose(read_image(tmp_path / "a.nii").grid.zooms, [2, 3, 4])


@pytest.mark.parametrize(("orientation", "gz"), [("qform", ""), ("qform", ".gz"), ("none", ""), ("none", ".gz")])
def test_voxel_sizes_that_cannot_be_are_not_replaced_in_silence(tmp_path: Path, orientation: str, gz: str) -> None:
    """nibabel takes 0 for 1 mm and negative sizes for positive ones."""
    image = nib.Nifti1Image(np.ones((30, 40, 50), np.int16), np.diag([2.0, 2, 2, 1]))
    image.set_sform(None, 0)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1 if orientation == "qform" else 0)
    content = bytearray(image.to_bytes())
    for sizes, said in (((0, 2, 2), "0 × 2 × 2 mm, which cannot be"), ((2, np.nan, 2), "2 × nan × 2 mm")):
        content[80:92] = np.array(sizes, "<f4").tobytes()
        path = tmp_path / f"a.nii{gz}"
        path.write_bytes(gzip.compress(bytes(content)) if gz else content)
        with pytest.raises(UserError, match=said):
            read_grid(path)
    content[80:92] = np.array((2, -2, 2), "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)) if gz else content)
    with pytest.warns(InputWarning, match=r"negative size \(2 × -2 × 2 mm\), taken as positive"):
        assert read_image(path).grid.zooms.tolist() == [2, 2, 2]


def test_voxel_sizes_do_not_matter_beside_an_sform(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.diag([2.0, 2, 2, 1])).to_bytes())
    content[80:92] = np.array((0, -2, np.nan), "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert read_grid(tmp_path / "a.nii").zooms.tolist() == [2, 2, 2] and not recwarn.list
