from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spatial_cases import known_affine
from uresnet.transform import Affine, about, closest_rigid, matrix_exponential, matrix_logarithm


def turn_z(degrees: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return matrix


def test_a_point_by_hand():
    matrix = np.array([[0, -2, 0, 1], [1, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1.0]])
    moved = Affine(matrix).apply(torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert moved.tolist() == [[[-3.0, 3.0, 12.0]]]


def test_inverse_undoes_and_then_composes_in_order():
    affine = known_affine()
    points = torch.rand(50, 3, dtype=torch.float64) * 100
    torch.testing.assert_close(affine.inverse().apply(affine.apply(points)), points)
    other = Affine(turn_z(30))
    torch.testing.assert_close(affine.then(other).apply(points), other.apply(affine.apply(points)))


def test_logarithm_of_a_turn_is_its_angle_and_the_exponential_undoes_it():
    log = matrix_logarithm(turn_z(40))
    assert log[1, 0] == pytest.approx(np.deg2rad(40))
    affine = known_affine().matrix
    np.testing.assert_allclose(matrix_exponential(matrix_logarithm(affine)), affine, atol=1e-10)


def test_what_has_no_real_logarithm():
    for matrix in (np.diag([-1.0, 1, 1, 1]), np.diag([-1.0, -2.0, 1, 1])):
        with pytest.raises(ValueError, match="180"):
            matrix_logarithm(matrix)


def test_closest_rigid_takes_the_stretch_away_and_keeps_the_centre():
    centre = np.array([10.0, -20.0, 30.0])
    stretch = about(np.diag([1.2, 0.9, 1.1]), [0, 0, 0], centre)
    rotation = about(turn_z(25)[:3, :3], [4, 5, 6], centre)
    # A turn after a symmetric positive stretch is exactly its polar decomposition.
    np.testing.assert_allclose(closest_rigid(rotation @ stretch, centre), rotation, atol=1e-10)
    with pytest.raises(ValueError, match="mirrors"):
        closest_rigid(np.diag([-1.0, 1, 1, 1]))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "4×4"),
        (np.diag([1.0, 1, np.nan, 1]), "not finite"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.diag([1.0, 1, 1e-9, 1]), "singular"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
    ],
)
def test_unsound_matrices_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        Affine(matrix)


def test_the_matrix_cannot_be_changed_behind_its_back():
    source = np.eye(4)
    affine = Affine(source)
    source[0, 3] = 5
    assert affine.matrix[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 3] = 1
