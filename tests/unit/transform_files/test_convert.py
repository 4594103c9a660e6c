"""From one program's file to another's: every file of a format, and what is missing for it."""

from __future__ import annotations

import pytest

from transform_cases import FIXED, MOVING, sentence
from uresnet.transform_files import FileKind, convert_transform


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
