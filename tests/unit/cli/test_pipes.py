"""``-`` on the command line: an image from standard input, a result to standard output."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from command import MOVING, type_line
from spatial_cases import smooth_image
from uresnet.cli.pipes import piped


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


def test_no_pipe_is_held_in_memory(tmp_path, monkeypatch):
    """5 MB from standard input and to standard output, in pieces."""
    content = np.random.default_rng(0).bytes(5_000_000)
    written: list[bytes] = []
    asked: list[int] = []

    class Input(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    output = SimpleNamespace(write=lambda piece: written.append(bytes(piece)))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Input(content)))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=output))
    with piped(Path("-"), Path("-")) as (source, target):
        assert source.read_bytes() == content
        target.write_bytes(content)
    assert b"".join(written) == content and max(map(len, written)) <= 1 << 20
    assert min(asked) > 0 and max(asked) <= 1 << 20
