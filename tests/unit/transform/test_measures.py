"""Jacobians and inverse errors, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spatial_cases import ORIENTATIONS, grid_of, half_affine, known_affine, mid_space, smooth_field
from uresnet.core.coordinates import slabs
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.transform import (
    Composite,
    displacement_on,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    lattice_determinant,
    log_jacobian_std,
    map_grid,
)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_jacobian_is_the_product_of_its_parts(orientation):
    grid = grid_of(orientation)
    affine, field = known_affine(), smooth_field(grid)
    expected = np.linalg.det(affine.matrix) * lattice_determinant(field.voxel_displacement)
    torch.testing.assert_close(jacobian_determinant(Composite([field, affine]), grid), expected, atol=2e-4, rtol=0)
    constant = jacobian_determinant(affine, grid)
    assert constant.numpy() == pytest.approx(np.linalg.det(affine.matrix))
    # With an affine before the field, on the grid that it maps onto the field's, the chain rule is exact as well.
    half = half_affine()
    before = Grid(grid.shape, half.inverse().matrix @ grid.voxel_to_world)
    found = jacobian_determinant(Composite([half, field, half]), before)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_dense_map_says_the_same_at_the_voxels_of_its_grid(orientation):
    grid = grid_of(orientation, shape=(14, 17, 12))
    chain = mid_space(grid)
    dense = Composite([displacement_on(chain, grid)])
    np.testing.assert_allclose(map_grid(dense, grid), map_grid(chain, grid), atol=2e-4)
    part = map_grid(dense, grid, rows=slice(3, 8))
    np.testing.assert_allclose(part, map_grid(chain, grid, rows=slice(3, 8)), atol=2e-4)
    np.testing.assert_allclose(jacobian_determinant(dense, grid), jacobian_determinant(chain, grid), atol=1e-3)


def test_a_jacobian_does_not_depend_on_the_slabs(monkeypatch):
    grid = grid_of("LAS")
    transform = mid_space(grid)
    whole = jacobian_determinant(transform, grid)
    monkeypatch.setattr("uresnet.transform.measures.slabs", lambda shape, channels=1: slabs(shape, channels, budget=1))
    torch.testing.assert_close(jacobian_determinant(transform, grid), whole, atol=1e-5, rtol=0)


def test_folding_and_sdlogj_by_hand():
    determinant = torch.tensor([[[1.0, -0.5, math.e, 0.0]]])
    assert folding_fraction(determinant) == 0.5
    mask = torch.tensor([[[True, False, True, False]]])
    assert folding_fraction(determinant, mask) == 0
    assert log_jacobian_std(determinant, mask) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="empty"):
        folding_fraction(determinant, mask & False)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mid_space_map_and_its_inverse(orientation):
    grid = grid_of(orientation, shape=(40, 44, 38), zooms=(1.5, 1.2, 1.4))
    half = half_affine()
    transform = Composite([half, smooth_field(grid, size_mm=1.2, sigma=5.0), half])
    inverse = transform.inverse()
    assert inverse.residual is not None
    mask = torch.zeros(grid.shape, dtype=torch.uint8)
    mask[8:-8, 8:-8, 8:-8] = 1
    error = inverse_error(transform, inverse, LabelMap(mask, grid))
    assert error.mean_mm < 0.01
    assert error.max_mm < 0.1
    assert folding_fraction(jacobian_determinant(transform, grid)) == 0
