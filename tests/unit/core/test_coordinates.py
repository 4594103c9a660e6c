"""Positions of voxels, maps between coarse and fine grids, and slabs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.core.coordinates import affine_coordinates, coarser_map, finer_map, identity_coordinates, slabs


@pytest.mark.parametrize("first", [0, 3])
def test_affine_coordinates_are_the_matrix_product(first):
    matrix = np.eye(4)
    matrix[:3] = np.random.default_rng(0).normal(size=(3, 4)) * [1, 1, 1, 200]
    found = affine_coordinates(matrix, (5, 6, 7), first_slice=first)[0].double().numpy()
    index = np.indices((5, 6, 7)).reshape(3, -1) + np.array([[first], [0], [0]])
    expected = (matrix[:3, :3] @ index + matrix[:3, 3:]).reshape(3, 5, 6, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-6)


def test_slabs_cover_an_axis_once():
    parts = list(slabs((10, 20, 30), channels=2, budget=3600))
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(10))
    assert len(parts) == 4


@pytest.mark.parametrize("block", [1, 2, 3])
def test_maps_between_blocks_and_their_voxels_are_each_others_converse(block):
    """A linear map between blocks is the same map between their voxels, but for the outermost halves of blocks."""
    matrix = torch.tensor([[1.02, 0.03, -0.01], [0.0, 0.97, 0.02], [0.01, 0.0, 1.05]])
    shift = torch.tensor([0.7, -1.2, 2.0])
    coarse = identity_coordinates((6, 7, 8))
    where = torch.einsum("cd,bdijk->bcijk", matrix, coarse) + shift.view(1, 3, 1, 1, 1)
    fine = finer_map(where, block)
    assert fine.shape == (1, 3, 6 * block, 7 * block, 8 * block)
    half = (block - 1) / 2
    places = (identity_coordinates((6 * block, 7 * block, 8 * block)) - half) / block
    expected = (torch.einsum("cd,bdijk->bcijk", matrix, places) + shift.view(1, 3, 1, 1, 1)) * block + half
    inner = (slice(None), slice(None), *[slice(block, -block)] * 3)
    torch.testing.assert_close(fine[inner], expected[inner], rtol=0, atol=2e-5)
    torch.testing.assert_close(coarser_map(fine, block)[..., 1:-1, 1:-1, 1:-1], where[..., 1:-1, 1:-1, 1:-1])
