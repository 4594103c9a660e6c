"""From one program's file to another's: every file of a format, and what is missing for it."""

from __future__ import annotations

import pytest

from spatial_cases import known_affine
from transform_cases import FIXED, MOVING, sentence
from uresnet.core.format_files import FORMAT_FILES
from uresnet.transform_files import FORMATS, FileKind, TransformPair, convert_transform, write_transform


@pytest.mark.parametrize("format", FORMATS)
def test_all_files_of_a_format(files, format):
    done = convert_transform(files / "t.h5", files / f"{format}_", format, FileKind(None, FIXED, MOVING))
    assert all(path.is_file() and path.name.startswith(f"{format}_") and text for path, text in done.items())
    assert any("nverse" in path.name for path in done)
    assert [path.name for path in done] == [f"{format}_{ending}" for ending in FORMAT_FILES[format].together]
    assert "exists already" in sentence(
        convert_transform, files / "t.h5", files / f"{format}_", format, FileKind(None, FIXED, MOVING)
    )


def test_a_format_says_which_image_it_lacks(files):
    assert "moving=" in sentence(convert_transform, files / "t.h5", files / "w.nii.gz", "fsl", FileKind(None, FIXED))
    assert "only an affine" in sentence(
        convert_transform, files / "t.h5", files / "f.mat", "fsl", FileKind(None, FIXED, MOVING)
    )


@pytest.mark.parametrize("format", FORMATS)
def test_the_endings_of_a_format_are_those_that_are_written(files, tmp_path, format):
    """Of one file, and, for an affine, the first of all files."""
    affine, both = known_affine(), (FIXED, MOVING)
    for ending in FORMAT_FILES[format].endings:
        write_transform(affine, tmp_path / f"x{ending}", format, *both)
        assert (tmp_path / f"x{ending}").is_file()
    assert "choose one of these endings" in sentence(write_transform, affine, tmp_path / "x.csv", format, *both)
    endings = list(FORMATS[format](TransformPair(affine, affine.inverse(), *both)))
    assert endings == list(FORMAT_FILES[format].together[: len(endings)])
