"""A disk that fills in the middle of a command: one sentence, and all of its files or none."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from command import assert_refused, type_line


def test_convert_writes_all_files_of_a_format_or_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_bytes, []

    def filling(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    before = sorted(folder.iterdir())
    monkeypatch.setattr(Path, "write_bytes", filling)
    assert_refused(
        type_line("convert t.h5 -o all_ --to greedy --fixed fixed.nii.gz --moving moving.nii.gz"),
        r"^error: .*all_\w+\.nii\.gz cannot be written \(No space left on device\)",
    )
    assert len(written) == 2 and sorted(folder.iterdir()) == before


@pytest.mark.parametrize("message", ["Can't write (file write failed: errno = 28)", "Can't close"])
def test_an_error_of_hdf5_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    from uresnet.transform_files.formats import itk

    def full(*_: object) -> None:
        monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        raise RuntimeError(message)

    before = sorted(folder.iterdir())
    monkeypatch.setattr(itk, "_write_part", full)
    result = type_line("compose t.h5 t.h5 -o both.h5")
    assert_refused(result, r"^error: both\.h5 cannot be written \(No space left")
    assert sorted(folder.iterdir()) == before
