from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from spatial_cases import ORIENTATIONS, grid_of, points_in, smooth_field, smooth_noise
from uresnet.core.image import Image, LabelMap
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    closest_rigid,
    integrate_spatial_gradients,
    integrate_velocity,
    jacobian_determinant,
    lattice_determinant,
    resample,
)

FEW = settings(max_examples=25, deadline=None)
angles = st.lists(st.floats(-80, 80), min_size=3, max_size=3)
scales = st.lists(st.floats(0.7, 1.4), min_size=3, max_size=3)
shifts = st.lists(st.floats(-80, 80), min_size=3, max_size=3)


@st.composite
def affines(draw):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", draw(angles), degrees=True).as_matrix() @ np.diag(draw(scales))
    matrix[:3, 3] = draw(shifts)
    return Affine(matrix)


@FEW
@given(affines(), affines())
def test_affines_invert_and_compose(first, second):
    points = torch.rand(20, 3, dtype=torch.float64) * 200 - 100
    chain = Composite([first, second])
    torch.testing.assert_close(chain.inverse().apply(chain.apply(points)), points)
    torch.testing.assert_close(chain.simplified().apply(points), chain.apply(points))


@FEW
@given(affines())
def test_the_closest_rigid_is_rigid_and_leaves_rigid_alone(affine):
    rigid = closest_rigid(affine.matrix, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(rigid[:3, :3].T @ rigid[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(rigid) > 0
    np.testing.assert_allclose(closest_rigid(rigid), rigid, atol=1e-9)


@FEW
@given(hnp.arrays(np.float32, (1, 3, 5, 6, 7), elements=st.floats(0, 2, width=32)))
def test_positive_gradients_never_turn_an_axis_back(gradients):
    grown = integrate_spatial_gradients(torch.from_numpy(gradients))
    for c in range(3):
        assert (grown[:, c].diff(dim=1 + c) >= -1e-5).all()
        assert (grown[:, c].select(1 + c, 0) >= -1).all()


@FEW
@given(st.integers(0, 10_000), st.floats(0.2, 1.0), st.sampled_from(ORIENTATIONS))
def test_smooth_velocities_give_invertible_maps(seed, size, orientation):
    grid = grid_of(orientation, shape=(22, 26, 20), zooms=(1.2, 1.0, 1.4))
    velocity = torch.from_numpy(smooth_noise(grid.shape, 4.0, size, seed))[None]
    field = DisplacementField.from_voxel_displacement(integrate_velocity(velocity)[0], grid)
    assert (lattice_determinant(field.voxel_displacement) > 0).all()
    back = field.inverse()
    assert back.residual.unsolved_fraction == 0
    assert back.residual.mean_mm < 0.02


@FEW
@given(affines(), st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_a_constant_image_stays_constant_and_labels_stay_labels(affine, here, there):
    fixed, moving = grid_of(here, shape=(9, 8, 7)), grid_of(there, shape=(12, 10, 9))
    for interpolation in ("linear", "nearest", "cubic"):
        warped = resample(affine, Image(torch.full(moving.shape, 3.5), moving), fixed, interpolation, fill=3.5)
        torch.testing.assert_close(warped.data, torch.full(fixed.shape, 3.5), atol=1e-4, rtol=0)
    labels = LabelMap(torch.randint(0, 2, moving.shape) * 41, moving)
    assert set(resample(affine, labels, fixed).data.unique().tolist()) <= {0, 41}


@FEW
@given(affines(), st.sampled_from(ORIENTATIONS), st.integers(0, 100))
def test_an_affine_after_scales_the_jacobian_and_nothing_else(affine, orientation, seed):
    grid = grid_of(orientation, shape=(12, 14, 11))
    field = smooth_field(grid, seed=seed)
    plain = jacobian_determinant(field, grid)
    scaled = jacobian_determinant(Composite([field, affine]), grid)
    torch.testing.assert_close(scaled, plain * float(np.linalg.det(affine.matrix)), atol=1e-5, rtol=1e-4)


@FEW
@given(st.sampled_from(ORIENTATIONS), st.integers(0, 100))
def test_a_field_says_the_same_in_points_of_any_precision(orientation, seed):
    grid = grid_of(orientation, shape=(12, 14, 11))
    field, points = smooth_field(grid, seed=seed), torch.from_numpy(points_in(grid, 30))
    torch.testing.assert_close(field.apply(points.float()).double(), field.apply(points), atol=1e-4, rtol=0)
    assert field.apply(points).dtype == torch.float64
