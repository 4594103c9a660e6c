"""A disk that fills in the middle of a command: one sentence, and all of its files or none."""

from __future__ import annotations

import errno
import os
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


LINES = (
    "compose t.h5 t.h5 -o both.h5",
    "invert t.h5 -o back.h5",
    "convert t.h5 --to itk -o all_",
    "convert t.h5 --to freesurfer -o w.mgz --fixed fixed.nii.gz --moving moving.nii.gz",
    "apply t.h5 moving.nii.gz --like fixed.nii.gz -o o.nii.gz",
    "apply t.h5 moving.nii.gz --like fixed.nii.gz -o o.mgz",
    "jacobian t.h5 -o j.nii",
    "apply t.h5 p.csv -o q.tsv",
)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no files")
@pytest.mark.parametrize("line", LINES)
def test_what_the_system_does_not_write_is_one_sentence(folder: Path, line: str, capfd: pytest.CaptureFixture) -> None:
    """The system itself takes no more than a kilobyte a file. HDF5 on a disk would crash when it closes its file."""
    import resource

    (folder / "p.csv").write_text("x,y,z\n" + "10,-10,20\n" * 500)
    before = sorted(folder.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capfd.disabled():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            result = type_line(line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 2, result.output
    sentences = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert len(sentences) == 1 and "cannot be written (File too large)" in sentences[0], result.output
    assert sorted(folder.iterdir()) == before
