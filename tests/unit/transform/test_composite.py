from __future__ import annotations

import numpy as np
import pytest
import torch

from spatial_cases import ORIENTATIONS, grid_of, known_affine, mid_space, points_in, smooth_field
from uresnet.errors import UserError
from uresnet.transform import Affine, Composite, displacement_on, map_grid


def test_the_first_part_is_applied_first():
    double, shift = Affine(np.diag([2.0, 2, 2, 1])), Affine(np.eye(4) + np.eye(4, k=3))
    point = torch.tensor([[1.0, 1.0, 1.0]])
    assert Composite([double, shift]).apply(point).tolist() == [[3, 2, 2]]
    assert Composite([shift, double]).apply(point).tolist() == [[4, 2, 2]]
    assert Composite([double, shift]).inverse().apply(torch.tensor([[3.0, 2, 2]])).tolist() == [[1, 1, 1]]


def test_nested_composites_flatten_and_affines_merge():
    affine = known_affine()
    nested = Composite([Composite([affine, affine]), Composite([smooth_field(grid_of("RAS")), affine])])
    assert len(nested.parts) == 4
    simple = nested.simplified()
    assert len(simple.parts) == 3
    points = torch.from_numpy(points_in(grid_of("RAS"), 50))
    torch.testing.assert_close(simple.apply(points), nested.apply(points))


def test_parts_that_do_not_meet_are_refused():
    here, there = grid_of("RAS"), grid_of("oblique", shape=(20, 20, 20))
    first = Affine(np.eye(4), domain=here, codomain=there)
    assert Composite([first, first.inverse()]).codomain.same_as(here)
    with pytest.raises(UserError, match="another space"):
        Composite([first, first])
    far = Affine(np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), domain=here)
    with pytest.raises(UserError, match="no point of the fixed image"):
        Composite([far, smooth_field(here)])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mapping_a_grid_is_mapping_its_points(orientation):
    grid = grid_of(orientation)
    transform = mid_space(grid_of("oblique", shape=(30, 34, 28), zooms=(1.5, 1.4, 1.8)))
    world = torch.from_numpy(grid.points_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    expected = transform.apply(world).permute(3, 0, 1, 2)
    found = map_grid(transform, grid)[0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(map_grid(transform, grid, rows=slice(3, 7))[0], found[:, 3:7], atol=2e-5, rtol=0)
    dense = displacement_on(transform, grid)
    torch.testing.assert_close(dense.displacement.double(), expected - world.permute(3, 0, 1, 2), atol=1e-4, rtol=0)
