"""The verbs on transform files as they are typed: what they say, how they exit, and that nothing is half-written."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from spatial_cases import grid_of, known_affine, points_in, smooth_field, smooth_image
from uresnet.cli.main import app
from uresnet.core.grid import Grid
from uresnet.transform import Composite
from uresnet.transform_files import read_transform, write_itk_composite

FIXED = grid_of("oblique")
MOVING = grid_of("LPS", shape=(24, 28, 22), zooms=(1.5, 1.7, 2.1), centre=(8.0, -10.0, 18.0))
TRANSFORM = Composite([smooth_field(FIXED), known_affine()])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_itk_composite(TRANSFORM, "t.h5")
    for name, grid in (("moving", MOVING), ("fixed", FIXED)):
        image = nib.Nifti1Image(smooth_image(grid).numpy(), grid.voxel_to_world)
        image.set_sform(grid.voxel_to_world, 1)
        nib.save(image, f"{name}.nii.gz")
    return tmp_path


def run(line: str, stdin: bytes | None = None):
    return CliRunner().invoke(app, line.split(), input=stdin)


def fails(line: str) -> str:
    before = {path.name for path in Path().iterdir()}
    done = run(line)
    assert done.exit_code == 2, done.output
    said = done.stderr.strip()
    assert said.startswith("error: ") and "\n" not in said, said
    assert {path.name for path in Path().iterdir()} == before
    return said


def same_points(path: Path | str, expected) -> None:
    points = torch.from_numpy(points_in(FIXED, 30, whole=True))
    torch.testing.assert_close(read_transform(path).apply(points), expected.apply(points), atol=2e-4, rtol=0)


def test_apply_from_and_to_a_pipe(folder):
    direct = run("apply t.h5 moving.nii.gz --like fixed.nii.gz -o out.nii.gz")
    assert direct.exit_code == 0 and "linear" in direct.stdout
    piped = run("apply t.h5 - --like fixed.nii.gz -o -", stdin=Path("moving.nii.gz").read_bytes())
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
    assert run(f"apply t.h5 m{suffix} --like fixed.nii.gz -o out.nii.gz").exit_code == 0
    piped = run("apply t.h5 - --like fixed.nii.gz -o -", stdin=Path(f"m{suffix}").read_bytes())
    assert piped.exit_code == 0, piped.stderr
    piped_values = nib.Nifti1Image.from_bytes(gzip.decompress(piped.stdout_bytes)).get_fdata()
    np.testing.assert_array_equal(piped_values, nib.load("out.nii.gz").get_fdata())


@pytest.mark.parametrize("content", [b"\x1f\x8b junk", b"PK\x03\x04 junk", b"NRRD0004 junk", b"\0\0\0\1", b"junk"])
def test_a_pipe_of_junk_is_one_sentence(folder, content):
    done = run("apply t.h5 - --like fixed.nii.gz -o out.nii.gz", stdin=content)
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and "\n" not in done.stderr.strip()
    assert not Path("out.nii.gz").exists()


def test_apply_says_what_it_took_the_image_for(folder):
    for name, values in (("scan", 300 + 100 * smooth_image(MOVING).numpy()), ("labels", np.full(MOVING.shape, 17))):
        nib.save(nib.Nifti1Image(values.astype(np.int16), MOVING.voxel_to_world), f"{name}.nii.gz")
    for name, said in (("scan", "linear (whole numbers that change"), ("labels", "label (whole numbers in patches")):
        done = run(f"apply t.h5 {name}.nii.gz --like fixed.nii.gz -o out.nii.gz")
        assert done.exit_code == 0, done.output
        assert said in done.stdout and "--interpolation changes it" in done.stdout and "int16" in done.stdout
    done = run("apply t.h5 scan.nii.gz --like fixed.nii.gz -o out.nii.gz --interpolation cubic")
    assert "cubic (as asked for), int16" in done.stdout


def test_compose_in_the_stated_order(folder):
    assert run("convert t.h5 --to itk -o again.h5").exit_code == 0
    np.savetxt("a.txt", known_affine().matrix)
    done = run("compose t.h5 a.txt -o both.h5")
    assert done.exit_code == 0 and "2 transforms, 2 parts" in done.stdout  # the affines are one
    same_points("both.h5", Composite([TRANSFORM, known_affine()]))
    assert run("compose t.h5 a.txt -o both.nii.gz --like fixed.nii.gz").exit_code == 0
    same_points("both.nii.gz", Composite([TRANSFORM, known_affine()]))


def test_convert_says_how_exact_it_is(folder):
    done = run("convert t.h5 --to fsl -o w.nii.gz --moving moving.nii.gz --fixed fixed.nii.gz")
    assert done.exit_code == 0 and "differs by" in done.stdout
    back = run("convert w.nii.gz --from fsl --moving moving.nii.gz --fixed fixed.nii.gz --to itk -o back.h5")
    assert back.exit_code == 0
    same_points("back.h5", TRANSFORM)
    done = run("convert t.h5 --to ants -o s01_")
    assert done.exit_code == 0 and "undoes the transform" in done.stdout
    assert Path("s01_0GenericAffine.mat").exists() and Path("s01_1InverseWarp.nii.gz").exists()


def test_points_outside_are_warned_about(folder):
    Path("p.csv").write_text("x,y,z\n{},{},{}\n5000,0,0\n".format(*FIXED.centre_world))
    done = run("apply t.h5 p.csv -o q.csv")
    assert done.exit_code == 0 and "1 of 2 points lie outside the deformation (point 2)" in done.stderr
    assert [line.rpartition(",")[2] for line in Path("q.csv").read_text().split()] == ["inside", "1", "0"]
    assert [row.split(",")[3] for row in Path("q.csv").read_text(encoding="utf-8").splitlines()] == ["inside", "1", "0"]


def test_points_without_names_or_without_a_deformation(folder):
    """A table without a header cannot name its new column; an affine is defined everywhere, the fixed image is not."""
    centre, corner = FIXED.centre_world, FIXED.corners_world[0]
    beyond = centre + 1.5 * (corner - centre)
    Path("p.csv").write_text("".join("{},{},{}\n".format(*point) for point in (centre, beyond)))
    np.savetxt("a.txt", known_affine().matrix)
    for line, last in (("", ["1", "1"]), (" --like fixed.nii.gz", ["1", "0"])):
        done = run(f"apply a.txt p.csv -o q.csv{line}")
        assert done.exit_code == 0 and "the last column: 1 inside" in " ".join(done.stdout.split())
        assert ("point 2" in done.stderr and "fixed.nii.gz" in done.stderr) == bool(line)
        rows = [row.split(",") for row in Path("q.csv").read_text(encoding="utf-8").splitlines()]
        assert [row[3] for row in rows] == last
        expected = known_affine().apply(torch.from_numpy(np.array([centre, beyond])))
        np.testing.assert_allclose(np.array(rows, dtype=float)[:, :3], expected, atol=2e-5)
    assert "does not exist" in fails("apply a.txt p.csv -o r.csv --like nowhere.nii.gz")
    assert "not interpolated" in fails("apply a.txt p.csv -o r.csv --interpolation nearest")


def test_jacobian_log(folder):
    assert run("jacobian t.h5 -o j.nii.gz").exit_code == run("jacobian t.h5 -o l.nii.gz --log").exit_code == 0
    plain, log = (nib.load(name).get_fdata() for name in ("j.nii.gz", "l.nii.gz"))
    np.testing.assert_allclose(np.exp(log), plain, rtol=1e-5)


def test_mistakes_are_one_sentence_and_leave_nothing(folder):
    matrix = FIXED.voxel_to_world.copy()
    matrix[0, 3] += 900
    shifted = Grid(FIXED.shape, matrix)
    write_itk_composite(Composite([smooth_field(shifted)]), "away.h5")
    Path("cut.h5").write_bytes(Path("t.h5").read_bytes()[:5000])
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4)), "vectors.nii.gz")
    assert "do not meet" in fails("compose t.h5 away.h5 -o c.h5")
    assert "damaged" in fails("apply cut.h5 moving.nii.gz --like fixed.nii.gz -o o.nii.gz")
    assert "--like" in fails("apply t.h5 moving.nii.gz -o o.nii.gz")
    assert "--from" in fails("convert vectors.nii.gz --to itk -o o.h5")
    assert "turned as well" in fails("apply t.h5 vectors.nii.gz --like fixed.nii.gz -o o.nii.gz")
    assert "--moving" in fails("convert t.h5 --to fsl -o w.nii.gz --fixed fixed.nii.gz")
    assert "not a dense warp" in fails("apply moving.nii.gz moving.nii.gz --like fixed.nii.gz -o o.nii.gz")
