"""Tables of points: which way they go, and what is said of those outside."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from spatial_cases import known_affine, points_in
from transform_cases import FIXED, MOVING, TRANSFORM, applied, save, sentence
from uresnet.transform_files import (
    apply_to_points,
    read_points,
    write_points,
)


def test_points_of_the_fixed_image_go_to_the_moving_one(files):
    """A landmark seen in both images: the moving image is brought onto the fixed one, the landmark goes back."""
    landmark = FIXED.points_to_world([11, 15, 8])
    there = TRANSFORM.apply(torch.from_numpy(landmark)[None])[0].numpy()
    i, j, k = np.rint(MOVING.points_to_voxel(there)).astype(int)
    values = np.zeros(MOVING.shape, np.float32)
    values[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 1
    save(files, "m.nii.gz", values)
    seen = applied(files, "m.nii.gz", interpolation="linear").get_fdata()
    centre = np.array([np.indices(seen.shape)[a].ravel() @ seen.ravel() for a in range(3)]) / seen.sum()
    assert np.abs(FIXED.points_to_world(centre) - landmark).max() < 1.5
    (files / "p.csv").write_text("name,x,y,z\nseen,{},{},{}\n".format(*landmark))
    write_points(apply_to_points(files / "t.h5", files / "p.csv"), files / "q.csv")
    back = read_points(files / "q.csv")
    np.testing.assert_allclose(back.points[0], there, atol=1e-4)
    assert back.header == ("name", "x", "y", "z", "inside") and back.rows[0][0] == "seen" and back.rows[0][4] == "1"


def test_points_outside_are_said_not_clamped(files):
    far = FIXED.corners_world[0] + (FIXED.corners_world[0] - FIXED.centre_world)
    (files / "p.csv").write_text("{},{},{}\n{},{},{}\n".format(*far, *FIXED.centre_world))
    table = apply_to_points(files / "t.h5", files / "p.csv")
    assert table.inside.tolist() == [False, True]
    np.testing.assert_allclose(table.points[0], known_affine().apply(torch.from_numpy(far)[None])[0], atol=1e-9)


def test_points_in_lps(files):
    world = points_in(FIXED, 5)
    for header, option in (("x,y,z,t\n", True), ("L,P,S,t\n", None)):
        rows = "".join(f"{-x},{-y},{z},0\n" for x, y, z in world)
        (files / "p.csv").write_text(header + rows)
        table = apply_to_points(files / "t.h5", files / "p.csv", lps=option)
        np.testing.assert_allclose(table.points, TRANSFORM.apply(torch.from_numpy(world)).numpy(), atol=1e-4)
        write_points(table, files / "q.csv")
        row = [float(cell) for cell in (files / "q.csv").read_text(encoding="utf-8").splitlines()[1].split(",")]
        np.testing.assert_allclose(row[:3] * np.array([-1, -1, 1]), table.points[0], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no points"),
        ("a,b,c\n1,2,3\n", "columns x, y, z"),
        ("x,y,z\n1,2\n", "in line 2 the coordinates 1 | 2 | ; give three numbers"),
        ("x,y,z\n\n1,2,3\n\n7,8,c\n", "in line 5 the coordinates 7 | 8 | c; give three numbers"),
        ('n,x,y,z\n"two\nlines",1,2,3\nb,1,2,-\n', "in line 4 the"),
        ("x,y,z\n1,2,nan\n", "in line 2 coordinates that are not finite"),
        ("x,y,z\n1,2,1e999\n", "finite"),
        ("x,y,z\n1_0,2,3\n", "three numbers"),
        ("x,y,z\n1,5,2,5,3,5\n", "6 cells in line 2 where there are 3 columns; repair it, with decimal points"),
        ("x,y,z\n1,2,3,4\n", "4 cells in line 2 where there are 3 columns; repair it."),
        ('x,y,z\n"1,5","2,0","3,5"\n', "1,5 | 2,0 | 3,5; give three numbers with decimal points"),
        ('"1,5","2,0","3,5"\n', "decimal commas (1,5)"),
        ("1,5;2,0;3,5\n", "another separator than commas; save it with commas between the columns, and points"),
        ("x;y;z\n1,5;2,0;3,5\n", "another separator than commas"),
        ("name,x,y,z;note\n", "another separator than commas"),
        (
            "1,5,2,0,3,5\n",
            "6 columns and no header, so it does not say which of them are coordinates; name the columns "
            "in a first line, such as x,y,z, with decimal points",
        ),
        ("x,y,z,inside\n1,2,3,yes\n", "a column inside with other values than 1 and 0"),
        ("x,y,z,t\n1,2,3,0\n", "column t, as the tables of ANTs have"),
        ("x,y,z,t,label,comment\n1,2,3,0,1,1\n", "say lps=True if it is one, and lps=False"),
        ("# x,y,z,T\n1,2,3,0\n", "column t"),
        ("1,10,20,30\n2,11,21,31\n", "4 columns and no header"),
        ("10,20,30,0.5\n", "4 columns and no header"),
        ("10,20\n", "2 columns and no header"),
        ("10,20,30\n1,2,3,4\n", "4 cells in line 2"),
        ("p1,1,2,3\n", "columns x, y, z"),
        ("x;y;z\n1;2;3\n", "another separator than commas"),
        ("x\ty\tz\n1\t2\t3\n", "another separator than commas"),
        ("x,y,z,R,A,S\n1,2,3,4,5,6\n", "more than one column"),
        ("x,y,z,x\n1,2,3,4\n", "more than one column"),
        ("x,y,z\n", "no points"),
        (f"{'a' * 200_000},y,z\n1,2,3\n", "points.csv cannot be read"),
        (f"{'a,' * 5_000}y,z\n1,2,3\n", "columns x, y, z"),
    ],
)
def test_tables_that_hold_no_points(files, text, word):
    (files / "points.csv").write_text(text)
    found = sentence(read_points, files / "points.csv")
    assert word in found and len(found) < 400 + len(str(files))


def test_points_of_a_table_are_never_guessed(files):
    """A header names them, in any order and among others; without one there are three columns and no more."""
    (files / "p.csv").write_text("# id,Z,X,Y,note\n1,30,10,20\n2,31,11,21,b\n")
    table = read_points(files / "p.csv")
    assert table.points.tolist() == [[10, 20, 30], [11, 21, 31]] and table.rows[0] == ("1", "30", "10", "20", "")
    (files / "p.tsv").write_text("x\ty\tz\tlabel\n10\t20\t30\ta, b\n")
    assert read_points(files / "p.tsv").points.tolist() == [[10, 20, 30]]
    (files / "p.csv").write_text("10,20,30\n")
    assert read_points(files / "p.csv").points.tolist() == [[10, 20, 30]]
    (files / "p.csv").write_text("R,A,S\n1,2,3\n")
    assert "leave out lps=" in sentence(read_points, files / "p.csv", lps=True)
    (files / "p.csv").write_text("L,P,S\n1,2,3\n")
    assert "leave out lps=False" in sentence(read_points, files / "p.csv", lps=False)


def test_a_table_of_ants_is_what_the_user_says(files):
    """antsApplyTransformsToPoints reads and writes x,y,z,t and more columns, in LPS (ITK's physical space)."""
    point = FIXED.points_to_world([10, 14, 8])
    there = TRANSFORM.apply(torch.from_numpy(point)[None])[0].numpy()
    for lps, sign in ((True, np.array([-1, -1, 1])), (False, 1)):
        (files / "p.csv").write_text("x,y,z,t,label\n{},{},{},0,7\n".format(*(point * sign)))
        table = apply_to_points(files / "t.h5", files / "p.csv", lps)
        write_points(table, files / "q.csv")
        header, row = (files / "q.csv").read_text(encoding="utf-8").splitlines()
        assert header == "x,y,z,t,label,inside" and row.split(",")[3:] == ["0", "7", "1"]
        np.testing.assert_allclose(np.array(row.split(",")[:3], float) * sign, there, atol=1e-4)


def test_points_that_are_mapped_again_keep_one_column_of_what_is_inside(files):
    """What was outside once stays so: where it came from nobody knows."""
    (files / "p.csv").write_text(
        "x,y,z,Inside,note\n{0},{1},{2},1,a\n{0},{1},{2},0,b\n9000,0,0,1.0,c\n".format(*FIXED.centre_world)
    )
    write_points(apply_to_points(files / "t.h5", files / "p.csv"), files / "q.csv")
    header, *rows = (files / "q.csv").read_text(encoding="utf-8").splitlines()
    assert header == "x,y,z,Inside,note" and [row.split(",")[3:] for row in rows] == [
        ["1", "a"],
        ["0", "b"],
        ["0", "c"],
    ]


# -- 3D Slicer -----------------------------------------------------------------------------------------------------

FCSV = """# Markups fiducial file version = 4.11
# CoordinateSystem = {}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,{},{},{},0,0,0,1,1,1,0,F-1,a note,
"""


def markup(system: str, position: list[float], **fields: object) -> dict[str, object]:
    points = [{"id": "1", "label": "F-1", "position": position}, {"label": "later", "positionStatus": "undefined"}]
    return {"type": "Fiducial", "coordinateSystem": system, "controlPoints": points, "measurements": [7]} | fields


def save_markups(path, *markups: object):
    path.write_text(json.dumps({"@schema": "x", "markups": markups}))
    return path


@pytest.mark.parametrize(("name", "sign"), [("LPS", -1), ("1", -1), ("RAS", 1), ("0", 1)])
def test_slicers_tables(name, sign, files):
    """A point of the fixed image lands where the transform sends it, in the coordinates that the file names."""
    point = FIXED.points_to_world([10, 14, 8])
    there = TRANSFORM.apply(torch.from_numpy(point)[None])[0].numpy()
    flip = np.array([sign, sign, 1])
    (files / "p.fcsv").write_text(FCSV.format(name, *(point * flip)))
    table = apply_to_points(files / "t.h5", files / "p.fcsv")
    write_points(table, files / "q.fcsv")
    lines = (files / "q.fcsv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == FCSV.format(name, *(point * flip)).splitlines()[:3]
    np.testing.assert_allclose(np.array(lines[3].split(",")[1:4], float) * flip, there, atol=1e-4)
    write_points(table, files / "q.csv")  # whose header says in which coordinates
    np.testing.assert_allclose(read_points(files / "q.csv").points[0], there, atol=1e-4)
    assert f"says that it is in {'LPS' if sign < 0 else 'RAS'}" in sentence(read_points, files / "p.fcsv", sign > 0)
    (files / "p.fcsv").write_text(FCSV.format(name, *FIXED.corners_world[0] * 100).replace("a note", ""))
    for _ in range(2):
        write_points(apply_to_points(files / "t.h5", files / "p.fcsv"), files / "p.fcsv")
    assert (files / "p.fcsv").read_text(encoding="utf-8").count("outside the deformation") == 1


def test_slicers_markups(files):
    point = FIXED.points_to_world([10, 14, 8])
    far = FIXED.corners_world[0] + 3 * (FIXED.corners_world[0] - FIXED.centre_world)
    lps = np.array([-1, -1, 1])
    path = save_markups(
        files / "p.mrk.json", markup("LPS", list(point * lps)), markup("LPS", list(far * lps), type="Line")
    )
    table = apply_to_points(files / "t.h5", path)
    there = TRANSFORM.apply(torch.from_numpy(np.stack([point, far]))).numpy()
    np.testing.assert_allclose(table.points, there, atol=1e-4)
    write_points(table, files / "q.mrk.json")
    first, second = json.loads((files / "q.mrk.json").read_text(encoding="utf-8"))["markups"]
    np.testing.assert_allclose(np.array(first["controlPoints"][0]["position"]) * lps, there[0], atol=1e-4)
    assert "outside" in second["controlPoints"][0]["description"] and "description" not in first["controlPoints"][0]
    assert "measurements" not in first and "position" not in first["controlPoints"][1]
    np.testing.assert_allclose(read_points(files / "q.mrk.json").points, there, atol=1e-4)
    write_points(table, files / "q.csv")
    np.testing.assert_allclose(read_points(files / "q.csv").points, there, atol=1e-4)
    assert "another kind" in sentence(write_points, table, files / "q.fcsv")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (FCSV.format("IJK", 1, 2, 3), "coordinates IJK"),
        (FCSV.format("2", 1, 2, 3), "coordinates 2"),
        (FCSV.format("LPS", 1, 2, "x"), "in line 4 the coordinates 1 | 2 | x; give three numbers"),
        (FCSV.format("LPS", 1, 2, 3).replace("# CoordinateSystem = LPS\n", ""), "coordinate system"),
        (FCSV.format("LPS", 1, 2, 3).replace("# columns", "# rows"), "columns"),
        (FCSV.format("LPS", 1, 2, 3).rsplit("\n", 2)[0], "no points"),
    ],
)
def test_slicers_tables_that_do_not_say_where_points_are(text, word, files):
    (files / "p.fcsv").write_text(text)
    assert word in sentence(read_points, files / "p.fcsv")


@pytest.mark.parametrize(
    ("markups", "word"),
    [
        ([markup("RAS", [1, 2, 3]), markup("LPS", [1, 2, 3])], "LPS and in RAS"),
        ([markup("IJK", [1, 2, 3])], "coordinates IJK"),
        ([markup("LPS", [1, 2, 3], type="ROI")], "ROI"),
        ([markup("LPS", [1, 2, 3], coordinateUnits="m")], "millimetres"),
        ([markup("LPS", [1, 2])], "three numbers in point 1 (F-1)"),
        ([markup("LPS", [1, 2, True])], "three numbers"),
        ([markup("LPS", [1, 2, float("nan")])], "p.mrk.json"),
        ([markup("LPS", [1, 2, 10**400])], "p.mrk.json"),
        ([markup("LPS", [1, 2, 3], controlPoints=7)], "cannot be read"),
        ([{"type": "Fiducial", "controlPoints": []}], "coordinate system"),
        ([3], "not a file of 3D Slicer"),
        ([], "no points"),
    ],
)
def test_markups_that_do_not_say_where_points_are(markups, word, files):
    assert word in sentence(read_points, save_markups(files / "p.mrk.json", *markups))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"markups": 3}', "null"])
def test_no_markups(text, files):
    (files / "p.mrk.json").write_text(text)
    assert "p.mrk.json" in sentence(read_points, files / "p.mrk.json")
