"""``-`` on the command line: an image from standard input, a result to standard output."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from command import MOVING, type_line
from spatial_cases import smooth_image


def test_apply_from_and_to_a_pipe(folder):
    direct = type_line("apply t.h5 moving.nii.gz --like fixed.nii.gz -o out.nii.gz")
    assert direct.exit_code == 0 and "linear" in direct.stdout
    piped = type_line("apply t.h5 - --like fixed.nii.gz -o -", stdin=Path("moving.nii.gz").read_bytes())
    assert piped.exit_code == 0, piped.stderr
    assert piped.stdout_bytes == Path("out.nii.gz").read_bytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgh", ".mgz", ".nrrd"])
def test_a_pipe_of_any_file_type(folder, suffix):
    """What comes without a name is known by its first bytes: the same as the file under its name."""
    image = sitk.ReadImage("moving.nii.gz")
    if suffix in (".mgh", ".mgz"):
        nib.save(nib.MGHImage(smooth_image(MOVING).numpy(), MOVING.voxel_to_world), f"m{suffix}")
    else:
        sitk.WriteImage(image, f"m{suffix}")
    assert type_line(f"apply t.h5 m{suffix} --like fixed.nii.gz -o out.nii.gz").exit_code == 0
    piped = type_line("apply t.h5 - --like fixed.nii.gz -o -", stdin=Path(f"m{suffix}").read_bytes())
    assert piped.exit_code == 0, piped.stderr
    piped_values = nib.Nifti1Image.from_bytes(gzip.decompress(piped.stdout_bytes)).get_fdata()
    np.testing.assert_array_equal(piped_values, nib.Nifti1Image.from_filename("out.nii.gz").get_fdata())


@pytest.mark.parametrize("content", [b"\x1f\x8b junk", b"PK\x03\x04 junk", b"NRRD0004 junk", b"\0\0\0\1", b"junk"])
def test_a_pipe_of_junk_is_one_sentence(folder, content):
    done = type_line("apply t.h5 - --like fixed.nii.gz -o out.nii.gz", stdin=content)
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and "\n" not in done.stderr.strip()
    assert not Path("out.nii.gz").exists()
