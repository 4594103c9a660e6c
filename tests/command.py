"""The command as tests type it, in this process, and a pair with a transform for the verbs on transform files."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
from typer.testing import CliRunner, Result

from spatial_cases import grid_of, known_affine, smooth_field, smooth_image
from uresnet.cli.main import app
from uresnet.transform import Composite
from uresnet.transform_files import write_itk_composite

RUNNER = CliRunner()

FIXED = grid_of("oblique")
MOVING = grid_of("LPS", shape=(24, 28, 22), zooms=(1.5, 1.7, 2.1), centre=(8.0, -10.0, 18.0))
TRANSFORM = Composite([smooth_field(FIXED), known_affine()])


def run(*arguments: object) -> Result:
    return RUNNER.invoke(app, [str(a) for a in arguments])


def type_line(line: str, stdin: bytes | None = None) -> Result:
    """Run a command line without spaces in its words."""
    return RUNNER.invoke(app, line.split(), input=stdin)


def assert_refused(result: Result, sentence: str, *absent: Path) -> None:
    """Exit 2, one sentence that ends like one, nothing on standard output, nothing written."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith("."), result.stderr
    assert re.search(sentence, lines[0]), lines[0]
    for path in absent:
        assert not path.exists()
        assert not path.parent.exists() or not [p for p in path.parent.iterdir() if "partial" in p.name]


def write_transform_and_pair(folder: Path) -> None:
    """``t.h5`` (TRANSFORM), ``moving.nii.gz`` and ``fixed.nii.gz`` (smooth images on MOVING and FIXED)."""
    write_itk_composite(TRANSFORM, folder / "t.h5")
    for name, grid in (("moving", MOVING), ("fixed", FIXED)):
        image = nib.Nifti1Image(smooth_image(grid).numpy(), grid.voxel_to_world)
        image.set_sform(grid.voxel_to_world, 1)
        nib.save(image, folder / f"{name}.nii.gz")
