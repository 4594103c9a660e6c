"""The verbs on transform files as they are typed: what they say, how they exit, and that nothing is half-written."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from command import FIXED, MOVING, TRANSFORM, type_line
from spatial_cases import known_affine, points_in, smooth_field, smooth_image
from uresnet.core.grid import Grid
from uresnet.transform import Composite
from uresnet.transform_files import read_transform, write_itk_composite


def fails(line: str) -> str:
    before = {path.name for path in Path().iterdir()}
    done = type_line(line)
    assert done.exit_code == 2, done.output
    said = done.stderr.strip()
    assert said.startswith("error: ") and "\n" not in said, said
    assert {path.name for path in Path().iterdir()} == before
    return said


def same_points(path: Path | str, expected) -> None:
    points = torch.from_numpy(points_in(FIXED, 30, whole=True))
    torch.testing.assert_close(read_transform(path).apply(points), expected.apply(points), atol=2e-4, rtol=0)


def test_apply_says_what_it_took_the_image_for(folder):
    for name, values in (("scan", 300 + 100 * smooth_image(MOVING).numpy()), ("labels", np.full(MOVING.shape, 17))):
        nib.save(nib.Nifti1Image(values.astype(np.int16), MOVING.voxel_to_world), f"{name}.nii.gz")
    for name, said in (("scan", "linear (whole numbers that change"), ("labels", "label (whole numbers in patches")):
        done = type_line(f"apply t.h5 {name}.nii.gz --like fixed.nii.gz -o out.nii.gz")
        assert done.exit_code == 0, done.output
        assert said in done.stdout and "--interpolation changes it" in done.stdout and "int16" in done.stdout
    done = type_line("apply t.h5 scan.nii.gz --like fixed.nii.gz -o out.nii.gz --interpolation cubic")
    assert "cubic (as asked for), int16" in done.stdout


def test_compose_in_the_stated_order(folder):
    assert type_line("convert t.h5 --to itk -o again.h5").exit_code == 0
    np.savetxt("a.txt", known_affine().matrix)
    assert "--from" in type_line("compose t.h5 a.txt -o both.h5").stderr
    done = type_line("compose t.h5 a.txt --from greedy -o both.h5")
    assert done.exit_code == 0 and "2 transforms, 2 parts" in done.stdout  # the affines are one
    same_points("both.h5", Composite([TRANSFORM, known_affine()]))
    assert type_line("compose t.h5 a.txt --from greedy -o both.nii.gz --like fixed.nii.gz").exit_code == 0
    same_points("both.nii.gz", Composite([TRANSFORM, known_affine()]))


def test_convert_says_how_exact_it_is(folder):
    done = type_line("convert t.h5 --to fsl -o w.nii.gz --moving moving.nii.gz --fixed fixed.nii.gz")
    assert done.exit_code == 0 and "differs by" in done.stdout
    back = type_line("convert w.nii.gz --from fsl --moving moving.nii.gz --fixed fixed.nii.gz --to itk -o back.h5")
    assert back.exit_code == 0
    same_points("back.h5", TRANSFORM)
    done = type_line("convert t.h5 --to ants -o s01_")
    assert done.exit_code == 0 and "undoes the transform" in done.stdout
    assert Path("s01_0GenericAffine.mat").exists() and Path("s01_1InverseWarp.nii.gz").exists()


def test_points_outside_are_warned_about(folder):
    Path("p.csv").write_text("x,y,z\n{},{},{}\n5000,0,0\n".format(*FIXED.centre_world))
    done = type_line("apply t.h5 p.csv -o q.csv")
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
        done = type_line(f"apply a.txt p.csv --from greedy -o q.csv{line}")
        assert done.exit_code == 0 and "the last column: 1 inside" in " ".join(done.stdout.split())
        assert ("point 2" in done.stderr and "fixed.nii.gz" in done.stderr) == bool(line)
        rows = [row.split(",") for row in Path("q.csv").read_text(encoding="utf-8").splitlines()]
        assert [row[3] for row in rows] == last
        expected = known_affine().apply(torch.from_numpy(np.array([centre, beyond])))
        np.testing.assert_allclose(np.array(rows, dtype=float)[:, :3], expected, atol=2e-5)
    assert "does not exist" in fails("apply a.txt p.csv -o r.csv --like nowhere.nii.gz")
    assert "not interpolated" in fails("apply a.txt p.csv -o r.csv --interpolation nearest")


def test_jacobian_log(folder):
    assert (
        type_line("jacobian t.h5 -o j.nii.gz").exit_code == type_line("jacobian t.h5 -o l.nii.gz --log").exit_code == 0
    )
    plain, log = (nib.Nifti1Image.from_filename(name).get_fdata() for name in ("j.nii.gz", "l.nii.gz"))
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
