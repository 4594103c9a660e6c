"""What tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from command import write_transform_and_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(moving, fixed) files."""
    folder = tmp_path_factory.mktemp("pair")
    files = []
    for name, shift in (("LAS", (0.0, 0.0, 0.0)), ("oblique", (5.0, -8.0, 3.0))):
        grid = FIELDS_OF_VIEW[name]
        files.append(str(write_nifti(brain_on(grid, shift), grid, folder / f"{name}.nii.gz")))
    return files[0], files[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a transform and its pair (see ``tests/command.py``)."""
    monkeypatch.chdir(tmp_path)
    write_transform_and_pair(tmp_path)
    return tmp_path
