from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, linalg

from spatial_cases import ORIENTATIONS, grid_of, points_in, smooth_field, smooth_noise
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.grid import Grid
from uresnet.transform import (
    DisplacementField,
    GridConvention,
    apply_voxel_affine,
    compose_displacements,
    folding_fraction,
    integrate_spatial_gradients,
    integrate_velocity,
    lattice_determinant,
)

# -- from spatial gradients ----------------------------------------------------------------------------------------


def test_gradients_of_one_are_exactly_the_identity():
    shape = (160, 7, 208)
    assert torch.equal(integrate_spatial_gradients(torch.ones(2, 3, *shape))[1:], identity_coordinates(shape))


def test_gradients_by_hand():
    gradients = torch.ones(1, 3, 3, 1, 1)
    gradients[0, 0, :, 0, 0] = torch.tensor([0.5, 2.0, 1.25])
    assert integrate_spatial_gradients(gradients)[0, 0, :, 0, 0].tolist() == [-0.5, 1.5, 2.75]
    assert integrate_spatial_gradients(gradients, GridConvention.PUBLISHED_2019)[0, 0, :, 0, 0].tolist() == [
        0.5,
        2.5,
        3.75,
    ]


def test_own_axis_differences_return_the_gradients_and_keep_order():
    gradients = torch.rand(1, 3, 8, 9, 10) * 2
    grown = integrate_spatial_gradients(gradients)
    for c in range(3):
        steps = grown[:, c].diff(dim=1 + c)
        assert (steps >= 0).all()
        torch.testing.assert_close(
            steps, gradients[:, c].narrow(1 + c, 1, gradients.shape[2 + c] - 1), atol=2e-6, rtol=0
        )


def test_half_precision_gradients_are_summed_in_float32():
    gradients = torch.full((1, 3, 300, 1, 1), 1.0, dtype=torch.bfloat16)
    assert integrate_spatial_gradients(gradients)[0, 0, -1, 0, 0] == 299


@pytest.mark.parametrize("name", ["segmentation", "use_mask"])
def test_the_published_convention_gives_the_published_grids(shared_reference, name):
    outputs = np.load(shared_reference / "published_outputs.npz")
    gradients = torch.from_numpy(outputs[f"{name}_spatial_gradients"])[None]
    affine = torch.from_numpy(outputs[f"{name}_affine"])[None]
    convention = GridConvention.PUBLISHED_2019
    grown = apply_voxel_affine(affine, integrate_spatial_gradients(gradients, convention), convention)
    np.testing.assert_allclose(grown[0].permute(1, 2, 3, 0), outputs[f"{name}_sampling_grid"], atol=1e-4)


def test_our_affine_turns_about_the_centre_of_the_grid():
    identity = identity_coordinates((5, 7, 9))
    affine = torch.tensor([[[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]])
    turned = apply_voxel_affine(affine, identity)
    assert turned[0, :, 2, 3, 4].tolist() == [2, 3, 4]
    assert turned[0, :, 3, 3, 4].tolist() == [2, 4, 4]
    assert apply_voxel_affine(affine, identity, GridConvention.PUBLISHED_2019)[0, :, 3, 3, 4].tolist() == [-3, 3, 4]


# -- from velocities -----------------------------------------------------------------------------------------------


def test_a_constant_velocity_is_a_shift():
    velocity = torch.tensor([1.5, -2.0, 0.25]).view(1, 3, 1, 1, 1).expand(1, 3, 6, 7, 8)
    torch.testing.assert_close(integrate_velocity(velocity, 5), velocity.contiguous(), atol=1e-5, rtol=0)


def test_a_linear_velocity_is_the_matrix_exponential():
    """Trilinear reading is exact on linear fields: what is left is the scheme's own error, which falls by 4 a step."""
    matrix = np.array([[0.1, -0.3, 0.05], [0.3, -0.1, 0.1], [0.0, 0.1, 0.2]])
    shape = (31, 31, 31)
    about_centre = identity_coordinates(shape, dtype=torch.float64) - 15
    velocity = torch.einsum("ab,nbijk->naijk", torch.from_numpy(matrix), about_centre)
    expected = torch.einsum("ab,nbijk->naijk", torch.from_numpy(linalg.expm(matrix) - np.eye(3)), about_centre)
    middle = (slice(None), slice(None), *[slice(10, 21)] * 3)  # never reads beyond the edge
    errors = [float((integrate_velocity(velocity, n)[middle] - expected[middle]).abs().max()) for n in (3, 4, 5, 6)]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert errors[-1] < 1e-3
    assert ((ratios > 3.5) & (ratios < 4.5)).all()


def test_it_is_the_flow_that_scipy_integrates():
    def speed(x):
        return 1.5 * np.sin(2 * np.pi * np.asarray(x) / 40 + np.array([0.0, 1.0, 2.0]))[[1, 2, 0]]

    shape = (41, 41, 41)
    places = identity_coordinates(shape)[0].permute(1, 2, 3, 0).numpy()
    velocity = 1.5 * np.sin(2 * np.pi * places / 40 + np.array([0.0, 1.0, 2.0]))[..., [1, 2, 0]]
    moved = integrate_velocity(torch.from_numpy(velocity).permute(3, 0, 1, 2)[None].float(), 6)[0]
    for voxel in ((20, 20, 20), (12, 25, 17), (28, 9, 30)):
        flow = integrate.solve_ivp(lambda _, x: speed(x), (0, 1), np.array(voxel, float), rtol=1e-8, atol=1e-8)
        expected = flow.y[:, -1] - voxel
        np.testing.assert_allclose(moved[:, *voxel], expected, atol=0.01)


def test_the_flow_back_undoes_the_flow_and_gradients_flow():
    velocity = torch.from_numpy(smooth_noise((24, 28, 20), 4.0, 1.0))[None].requires_grad_()
    both = compose_displacements(integrate_velocity(velocity), integrate_velocity(-velocity))
    assert both.abs().max() < 0.05
    both.square().sum().backward()
    assert torch.isfinite(velocity.grad).all() and velocity.grad.abs().max() > 0


def test_a_flow_wanted_in_some_places_is_the_whole_flow_there_and_the_velocity_elsewhere():
    velocity = torch.from_numpy(smooth_noise((24, 28, 20), 4.0, 1.0))[None]
    where = torch.zeros((24, 28, 20), dtype=torch.bool)
    where[4:20, 4:24, 4:16] = True
    some, whole = integrate_velocity(velocity, 5, where), integrate_velocity(velocity, 5)
    deep = (slice(None), slice(None), slice(8, 16), slice(8, 20), slice(8, 12))
    torch.testing.assert_close(some[deep], whole[deep], atol=1e-3, rtol=0)
    assert torch.equal(some[..., ~where], velocity[..., ~where])
    assert (velocity - whole)[deep].abs().max() > 0.02


# -- as a map of the world -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxel_and_world_displacements_agree(orientation):
    grid = grid_of(orientation)
    voxel_map = identity_coordinates(grid.shape)[0] + torch.from_numpy(smooth_noise(grid.shape, 2.0, 1.0))
    field = DisplacementField.from_voxel_map(voxel_map, grid)
    index = np.array([[3, 4, 5], [10, 20, 8], [17, 30, 12]])
    found = field.apply(torch.from_numpy(grid.points_to_world(index))).numpy()
    expected = grid.points_to_world(np.stack([voxel_map[:, *n].numpy() for n in index]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    torch.testing.assert_close(
        field.voxel_displacement, voxel_map - identity_coordinates(grid.shape)[0], atol=1e-5, rtol=0
    )


def test_zero_outside_constant_in_the_rim():
    grid = Grid((4, 4, 4), np.diag([2.0, 2, 2, 1]))
    field = DisplacementField(torch.ones(3, 4, 4, 4), grid)
    # Voxel centres at 0…6 mm; the rim reaches to −1 and 7 mm.
    points = torch.tensor([[3.0, 3, 3], [-0.9, 3, 3], [-1.1, 3, 3], [6.9, 3, 3], [7.1, 3, 3]])
    assert (field.apply(points) - points)[:, 0].tolist() == pytest.approx([1, 1, 0, 1, 0], abs=1e-6)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        DisplacementField(torch.zeros(3, 4, 4, 4), grid_of("RAS"))


def test_jacobian_of_a_known_map():
    """A displacement linear in the world has one determinant everywhere, whatever the grid."""
    stretch = np.array([[0.1, 0.05, 0.0], [0.0, -0.2, 0.1], [0.02, 0.0, 0.3]])
    for orientation in ORIENTATIONS:
        grid = grid_of(orientation)
        world = grid.points_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
        field = DisplacementField(torch.from_numpy(np.moveaxis(world @ stretch.T, -1, 0)), grid)
        inner = lattice_determinant(field.voxel_displacement)[1:-1, 1:-1, 1:-1]
        assert inner.numpy() == pytest.approx(np.linalg.det(np.eye(3) + stretch), abs=1e-4)


# -- inverses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_inverse_undoes_the_field(orientation):
    grid = grid_of(orientation, shape=(40, 44, 36), zooms=(1.0, 1.2, 0.9))
    field = smooth_field(grid, size_mm=1.2, sigma=5.0)
    back = field.inverse()
    points = torch.from_numpy(points_in(grid, 2000, margin=6))
    error = (back.apply(field.apply(points)) - points).norm(dim=1)
    assert error.mean() < 0.01 and error.max() < 0.1
    assert back.residual.unsolved_fraction == 0
    error = (field.apply(back.apply(points)) - points).norm(dim=1)
    assert error.mean() < 0.01 and error.max() < 0.1


def test_the_inverse_of_a_stretch_is_known_in_closed_form():
    """x → 2.5 x about the centre: plain fixed-point steps run away from it (|u′| = 1.5)."""
    grid = Grid.centred((33, 33, 33), (1, 1, 1), "RAS", (0, 0, 0))
    world = grid.points_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    field = DisplacementField(torch.from_numpy(1.5 * np.moveaxis(world, -1, 0)), grid)
    back = field.inverse()
    assert back.grid.shape == (81, 81, 81)
    points = torch.from_numpy(points_in(back.grid, 500))
    torch.testing.assert_close(back.apply(points), points / 2.5, atol=0.01, rtol=0)


def test_the_inverse_of_positive_gradients():
    """The paper's deformation does not vanish at the faces: its inverse needs a larger grid."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 4, 5, 4) * 0.3 + 0.85
    gradients = torch.nn.functional.interpolate(coarse, size=(32, 40, 28), mode="trilinear")
    grid = grid_of("oblique", shape=(32, 40, 28), zooms=(1.0, 1.0, 1.0))
    field = DisplacementField.from_voxel_map(integrate_spatial_gradients(gradients)[0], grid)
    back = field.inverse()
    points = torch.from_numpy(points_in(grid, 2000, margin=1))
    error = (back.apply(field.apply(points)) - points).norm(dim=1)
    assert error.mean() < 0.02
    assert back.residual.mean_mm < 0.02 and back.residual.unsolved_fraction < 1e-3


def test_a_known_inverse_is_handed_over_and_handed_back():
    grid = grid_of("LPS")
    field, known = smooth_field(grid, seed=1), smooth_field(grid, seed=2)
    pair = DisplacementField(field.displacement, grid, inverse_field=known)
    assert torch.equal(pair.inverse().displacement, known.displacement)
    assert torch.equal(pair.inverse().inverse().displacement, field.displacement)


def test_a_fold_is_reported_not_hidden():
    grid = Grid.centred((24, 24, 24), (1, 1, 1), "RAS", (0, 0, 0))
    field = smooth_field(grid, size_mm=6.0, sigma=1.5)
    assert folding_fraction(lattice_determinant(field.voxel_displacement)) > 0.05
    assert field.inverse().residual.max_mm > 0.5
