"""The verbs on transform files as they are typed: what they say, how they exit, and that nothing is half-written."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from command import FIXED, MOVING, TRANSFORM, type_line
from spatial_cases import known_affine, points_in, smooth_field, smooth_image
from uresnet.cli.session import Session
from uresnet.core.grid import Grid
from uresnet.transform import Composite
from uresnet.transform_files import read_transform, write_itk_affine, write_itk_composite


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
        done = type_line(f"apply t.h5 {name}.nii.gz --like fixed.nii.gz -o {name}_out.nii.gz")
        assert done.exit_code == 0, done.output
        assert said in done.stdout and "--interpolation changes it" in done.stdout and "int16" in done.stdout
    done = type_line("apply t.h5 scan.nii.gz --like fixed.nii.gz -o cubic.nii.gz --interpolation cubic")
    assert "cubic (as asked for), int16" in done.stdout


def test_compose_in_the_stated_order(folder):
    assert type_line("convert t.h5 --to itk -o again.h5").exit_code == 0
    np.savetxt("a.txt", known_affine().matrix)
    assert "--from" in type_line("compose t.h5 a.txt -o both.h5").stderr
    done = type_line("compose t.h5 a.txt --from greedy -o both.h5")
    assert done.exit_code == 0 and "2 transforms → both.h5 (1 affine, 1 deformation)" in done.stdout
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
    assert done.exit_code == 0 and "1 of 2 points lies outside the deformation (point 2)" in done.stderr
    assert [line.rpartition(",")[2] for line in Path("q.csv").read_text().split()] == ["inside", "1", "0"]
    assert [row.split(",")[3] for row in Path("q.csv").read_text(encoding="utf-8").splitlines()] == ["inside", "1", "0"]


def test_points_without_names_or_without_a_deformation(folder):
    """A table without a header cannot name its new column; an affine is defined everywhere, the fixed image is not."""
    centre, corner = FIXED.centre_world, FIXED.corners_world[0]
    beyond = centre + 1.5 * (corner - centre)
    Path("p.csv").write_text("".join("{},{},{}\n".format(*point) for point in (centre, beyond)))
    np.savetxt("a.txt", known_affine().matrix)
    for line, last in (("", ["1", "1"]), (" --like fixed.nii.gz", ["1", "0"])):
        done = type_line(f"apply a.txt p.csv --from greedy -o q.csv --overwrite{line}")
        assert done.exit_code == 0 and "points (RAS) of the fixed image" in done.stdout
        assert "the last column: 1 inside" in " ".join(done.stdout.split())
        assert ("point 2" in done.stderr and "fixed.nii.gz" in done.stderr) == bool(line)
        rows = [row.split(",") for row in Path("q.csv").read_text(encoding="utf-8").splitlines()]
        assert [row[3] for row in rows] == last
        expected = known_affine().apply(torch.from_numpy(np.array([centre, beyond])))
        np.testing.assert_allclose(np.array(rows, dtype=float)[:, :3], expected, atol=2e-5)
    assert "does not exist" in fails("apply a.txt p.csv -o r.csv --like nowhere.nii.gz")
    assert "not interpolated" in fails("apply a.txt p.csv -o r.csv --interpolation nearest")
    assert "leave out --lps" in fails("apply t.h5 scan.nii.gz --like fixed.nii.gz -o r.nii.gz --lps")


def test_the_command_asks_whose_a_table_with_times_is(folder):
    point = np.array(FIXED.centre_world)
    there = TRANSFORM.apply(torch.from_numpy(point)[None])[0].numpy()
    Path("p.csv").write_text("x,y,z,t,label\n{},{},{},0,1\n".format(*(point * [-1, -1, 1])))
    assert "say --lps if it is one, and --ras" in fails("apply t.h5 p.csv -o q.csv")
    done = type_line("apply t.h5 p.csv -o q.csv --lps")
    assert done.exit_code == 0 and "1 point (LPS) of the fixed image" in done.stdout
    row = [float(cell) for cell in Path("q.csv").read_text(encoding="utf-8").splitlines()[1].split(",")]
    np.testing.assert_allclose(row[:3] * np.array([-1, -1, 1]), there, atol=1e-5)


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
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 1, 6), np.float32), np.eye(4)), "six.nii.gz")
    assert "do not meet" in fails("compose t.h5 away.h5 -o c.h5")
    assert "damaged" in fails("apply cut.h5 moving.nii.gz --like fixed.nii.gz -o o.nii.gz")
    assert "--like" in fails("apply t.h5 moving.nii.gz -o o.nii.gz")
    assert "--from" in fails("convert vectors.nii.gz --to itk -o o.h5")
    assert "turned as well" in fails("apply t.h5 vectors.nii.gz --like fixed.nii.gz -o o.nii.gz")
    assert "--moving" in fails("convert t.h5 --to fsl -o w.nii.gz --fixed fixed.nii.gz")
    assert "not a dense warp" in fails("apply six.nii.gz moving.nii.gz --like fixed.nii.gz -o o.nii.gz")


def test_swapped_arguments_are_named(folder):
    nib.save(nib.MGHImage(np.zeros((9, 9, 9), np.uint8), np.eye(4)), "labels.mgz")
    Path("p.csv").write_text("x,y,z\n1,2,3\n")
    Path("scan.nrrd").write_bytes(b"NRRD0004")
    order = "transforms come first, as in uresnet apply TRANSFORM IMAGE"
    for first, what in (
        ("moving.nii.gz", "is an image (of 24 × 28 × 22 voxels), not a transform"),
        ("labels.mgz", "is an image (of 9 × 9 × 9 voxels), not a transform"),
        ("scan.nrrd", "is an image by its name, not a transform"),
        ("p.csv", "is a table of points by its name, not a transform"),
    ):
        said = fails(f"apply {first} moving.nii.gz --like fixed.nii.gz -o o.nii.gz")
        assert f"{first} {what}" in said and order in said
    for line in (
        "invert {} -o o.h5",
        "jacobian {} -o o.nii.gz",
        "convert {} --to itk -o o.h5",
        "compose {0} {0} -o o.h5",
    ):
        assert order in fails(line.format("moving.nii.gz"))
    assert "t.h5 is one transform; give two or more" in fails("compose t.h5 -o o.h5")
    for line in ("apply moving.nii.gz t.h5 --like fixed.nii.gz -o o.nii.gz", "apply p.csv t.h5 -o o.csv"):
        assert "t.h5 is a transform by its name, and stands where the image belongs" in fails(line)


WRITING = (
    ("apply t.h5 moving.nii.gz --like fixed.nii.gz -o o.nii.gz", ["o.nii.gz"]),
    ("apply t.h5 labels.nii.gz --like fixed.nii.gz -o o.nii.gz --volumes v.tsv", ["o.nii.gz", "v.tsv"]),
    ("apply t.h5 p.csv -o o.csv", ["o.csv"]),
    ("invert t.h5 -o o.h5", ["o.h5"]),
    ("compose t.h5 t.h5 -o o.h5", ["o.h5"]),
    ("jacobian t.h5 -o o.nii.gz", ["o.nii.gz"]),
    ("convert t.h5 --to itk -o o.h5", ["o.h5"]),
    ("convert t.h5 --to ants -o o_", ["o_0GenericAffine.mat", "o_1Warp.nii.gz", "o_1InverseWarp.nii.gz"]),
)


@pytest.mark.parametrize(("line", "names"), WRITING)
def test_nothing_that_exists_is_replaced_without_being_asked(folder, monkeypatch, line, names):
    """Each of the files that a command would write, one at a time, and before any work."""
    Path("p.csv").write_text("x,y,z\n1,2,3\n")
    nib.save(nib.Nifti1Image(np.full(MOVING.shape, 17, np.uint8), MOVING.voxel_to_world), "labels.nii.gz")
    for name in names:
        Path(name).write_text("mine")
        with monkeypatch.context() as patch:
            patch.setattr(Session, "load_torch", lambda _: pytest.fail("the work has begun"))
            assert f"{name} exists already; choose another name, or replace it with --overwrite." in fails(line)
        assert Path(name).read_text(encoding="utf-8") == "mine"
        Path(name).unlink()
    for name in names:
        Path(name).write_text("mine")
    if len(names) > 1 and line.startswith("convert"):
        assert f"and so do {len(names) - 1} more" in fails(line)
    before = {path.name for path in Path().iterdir()}
    assert type_line(f"{line} --overwrite").exit_code == 0
    assert {path.name for path in Path().iterdir()} == before
    assert all(Path(name).read_bytes() != b"mine" for name in names)


@pytest.mark.parametrize("line", ["invert t.h5 -o o.h5", "apply t.h5 moving.nii.gz --like fixed.nii.gz -o o.nii.gz"])
def test_a_file_that_comes_in_the_meantime_is_kept(folder, monkeypatch, line):
    name = line.rpartition(" ")[2]

    def slow(read):
        def reading(*given):
            Path(name).write_text("mine")
            return read(*given)

        return reading

    import uresnet.transform_files as package
    from uresnet.transform_files import apply as work

    for module in (work, package):
        monkeypatch.setattr(module, "read_chain", slow(work.read_chain))
    done = type_line(line)
    assert done.exit_code == 2 and f"{name} is there already and may not be replaced" in done.stderr
    assert Path(name).read_text(encoding="utf-8") == "mine"
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_what_converts_to_fewer_files_leaves_no_others_of_an_earlier_one(folder):
    assert type_line("convert t.h5 --to ants -o o_").exit_code == 0
    write_itk_affine(known_affine(), "a.txt")
    assert "o_0GenericAffine.mat exists already" in fails("convert a.txt --to ants -o o_")
    done = type_line("convert a.txt --to ants -o o_ --overwrite")
    assert done.exit_code == 0 and done.stdout.count("removed: of an earlier conversion") == 2
    assert [path.name for path in Path().glob("o_*")] == ["o_0GenericAffine.mat"]


def test_convert_names_what_a_format_has(folder):
    images = "--moving moving.nii.gz --fixed fixed.nii.gz"
    assert "name it .nii.gz instead" in fails(f"convert t.h5 --to fsl -o x.mat {images}")
    assert "name it .mgz instead" in fails(f"convert t.h5 --to freesurfer -o x.lta {images}")
    assert "name it .h5 instead" in fails("convert t.h5 --to ants -o x.mat")
    assert "name it .h5 instead" in fails("invert t.h5 -o x.tfm")
    assert "fsl has .nii.gz .nii .mat .txt" in fails(f"convert t.h5 --to fsl -o x.h5 {images}")
    assert "nifti has .nii.gz .nii;" in fails("convert t.h5 --to nifti -o x.mat")
    assert "ending that no transform is written with" in fails("convert t.h5 --to itk -o x.xfm")


def test_convert_into_a_folder_and_beside_what_is_there(folder):
    """A folder takes the plain names; what is neither a folder nor free begins no names."""
    Path("d").mkdir()
    for output in ("d", "d/"):
        done = type_line(f"convert t.h5 --to itk -o {output} --overwrite")
        assert done.exit_code == 0 and "d/inverse_transform.h5 " in done.stdout
        assert sorted(path.name for path in Path("d").iterdir()) == ["inverse_transform.h5", "transform.h5"]
    assert "d/transform.h5 exists already" in fails("convert t.h5 --to itk -o d")
    assert "new is no folder that exists; create it first" in fails("convert t.h5 --to itk -o new/")
    Path("taken").write_text("mine")
    os.mkfifo("pipe")
    for output in ("taken", "pipe", os.devnull):
        assert "is there already, and is no folder" in fails(f"convert t.h5 --to itk -o {output}")
    write_itk_affine(known_affine(), "a.txt")
    assert type_line("convert a.txt --to greedy -o d/").exit_code == 0 and Path("d/affine.mat").exists()


def test_pipes_and_devices_are_no_files(folder):
    """To open a pipe would wait for ever; to replace it would take it from whoever reads it."""
    os.mkfifo("p.nii.gz")
    os.mkfifo("p.h5")
    Path("p.csv").symlink_to(os.devnull)
    like = "--like fixed.nii.gz"
    for line in (
        f"apply t.h5 p.nii.gz {like} -o o.nii.gz",
        "apply t.h5 moving.nii.gz --like p.nii.gz -o o.nii.gz",
        f"apply p.h5 moving.nii.gz {like} -o o.nii.gz",
        "apply t.h5 p.csv -o o.csv",
        f"apply t.h5 moving.nii.gz {like} -o p.nii.gz --overwrite",
        "invert t.h5 -o p.h5 --overwrite",
    ):
        assert "is a device, a pipe or a socket" in fails(line)


def test_a_bare_matrix_is_named_as_what_it_is(folder):
    np.savetxt("bare.mat", known_affine().matrix)
    for format in ("itk", "ants", "freesurfer", "nifti"):
        said = fails(f"convert bare.mat --from {format} --to itk -o o.h5")
        assert f"bare.mat is a bare 4×4 matrix, and no transform of {format}; say whose" in said


@pytest.mark.parametrize("ending", [".NII.GZ", ".MAT", ".Tfm"])
def test_endings_in_capitals(folder, ending):
    source = "t.h5" if "NII" in ending else "a.txt"
    write_itk_affine(known_affine(), "a.txt")
    assert type_line(f"convert {source} --to itk -o o{ending}").exit_code == 0
    expected = TRANSFORM if "NII" in ending else known_affine()
    points = torch.from_numpy(FIXED.points_to_world(np.argwhere(np.ones(FIXED.shape))))
    torch.testing.assert_close(read_transform(f"o{ending}").apply(points), expected.apply(points), atol=2e-4, rtol=0)


def test_a_transform_of_the_other_direction_is_said_aloud(folder):
    right = "apply t.h5 moving.nii.gz --like fixed.nii.gz -o right.nii.gz"
    wrong = "apply t.h5 fixed.nii.gz --like moving.nii.gz -o wrong.nii.gz"
    convert = "convert t.h5 --to nifti -o {}.nii.gz --moving {} --fixed {}"
    for line, warned in (
        (right, False),
        (wrong, True),
        (convert.format("a", "moving.nii.gz", "fixed.nii.gz"), False),
        (convert.format("b", "fixed.nii.gz", "moving.nii.gz"), True),
    ):
        done = type_line(line)
        assert done.exit_code == 0, done.output
        assert ("check which way it maps, or use the inverse" in done.stderr) == warned
