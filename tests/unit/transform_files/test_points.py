"""Tables of points: which way they go, and what is said of those outside."""

from __future__ import annotations

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
    for header, option in (("x,y,z,t\n", True), ("L,P,S,t\n", False)):
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
        ("x,y,z\n1,2\n", "three numbers"),
        ("x,y,z\n1,2,nan\n", "finite"),
    ],
)
def test_tables_that_hold_no_points(files, text, word):
    (files / "p.csv").write_text(text)
    assert word in sentence(read_points, files / "p.csv")
