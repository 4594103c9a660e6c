"""The affine of the centroids, against the one that moved them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from solver_images import SHAPE, affine, blobs
from uresnet.solver import affine_between
from uresnet.solver.lattice import centred_positions


def test_the_affine_of_the_centroids_is_the_one_that_moved_them() -> None:
    one, other = affine(0.2, 0.08, 2.0), affine(-0.1, 0.0, -1.0)
    found = linalg.expm(affine_between(blobs(one).probabilities, blobs(other).probabilities))
    # Both show the same blobs: fixed x → blob → moving x.
    np.testing.assert_allclose(found, np.linalg.inv(one) @ other, atol=0.02)


def test_too_few_structures_are_said() -> None:
    nothing = torch.zeros(9, 8, 8, 8)
    with pytest.raises(ValueError, match="fewer than six"):
        affine_between(nothing, nothing)


def test_a_structure_that_is_cut_off_says_nothing_of_where_the_head_is() -> None:
    rng = np.random.default_rng(0)
    low = np.c_[rng.uniform(-20, 20, (8, 2)), rng.uniform(-16, -2, 8)]
    high = np.c_[rng.uniform(-20, 20, (4, 2)), np.full(4, 14.0)]
    centres = np.concatenate([low, high])  # mm about the middle
    matrix = affine(0.1, 0.04, 1.0)
    moving, fixed = structures(centres, matrix), structures(centres, np.eye(4))
    expected = np.linalg.inv(matrix)
    ignored = torch.zeros(1, 1, *fixed.shape[1:])
    ignored[..., (SHAPE[2] // 2 + 14) // 2 :] = 1  # through the high ones
    cut = moving * (1 - ignored[0])

    def error(affine_log: np.ndarray) -> float:
        points = np.c_[low, np.ones(len(low))].T
        return float(np.abs((linalg.expm(affine_log) - expected) @ points).max())

    assert error(affine_between(moving, fixed)) < 0.1
    assert error(affine_between(cut, fixed)) > 0.3
    assert error(affine_between(cut, fixed, (ignored, None))) < 0.1
    # Exchanging the images changes the sign and nothing else.
    back = affine_between(fixed, cut, (None, ignored))
    np.testing.assert_allclose(back, -affine_between(cut, fixed, (ignored, None)), atol=1e-12)
    # Where too few would be left, all are used.
    everywhere = torch.ones_like(ignored)
    np.testing.assert_array_equal(affine_between(cut, fixed, (everywhere, None)), affine_between(cut, fixed))


def test_what_is_left_of_structures_is_compared_with_the_same_part_of_them_in_the_other_image() -> None:
    """Each structure has a part in what is ignored, as cortex does, so that none is whole."""
    rng = np.random.default_rng(1)
    left = np.stack(np.meshgrid((-20.0, -4.0), (-18.0, 0.0, 18.0), (-14.0, 0.0, 14.0)), -1).reshape(-1, 3)
    right = np.c_[np.full(len(left), 22.0), rng.uniform(-20, 20, len(left)), rng.uniform(-14, 14, len(left))]
    matrix = affine(0.1, 0.04, 1.0)

    def on_both_sides(seen_through: np.ndarray) -> torch.Tensor:
        return structures(left, seen_through) + 0.25 * structures(right, seen_through)

    moving, fixed = on_both_sides(matrix), on_both_sides(np.eye(4))
    ignored = torch.zeros(1, 1, *fixed.shape[1:])
    ignored[..., (SHAPE[0] // 2 + 16) // 2 :, :, :] = 1  # through the right ones
    cut = moving * (1 - ignored[0])
    expected, points = np.linalg.inv(matrix), np.c_[left, np.ones(len(left))].T

    def error(affine_log: np.ndarray) -> float:
        return float(np.linalg.norm(((linalg.expm(affine_log) - expected) @ points)[:3], axis=0).mean())

    found = affine_between(cut, fixed, (ignored, None))
    assert error(affine_between(cut, fixed)) > 1 and error(found) < 0.5
    np.testing.assert_allclose(affine_between(fixed, cut, (None, ignored)), -found, atol=1e-12)


def structures(centres: np.ndarray, matrix: np.ndarray) -> torch.Tensor:
    """Probabilities (C + 1, I, J, K) at 2 mm: round structures (standard deviation 2.6 mm) seen through ``matrix``."""
    shape = [n // 2 for n in SHAPE]
    x = centred_positions(shape, 2.0, torch.device("cpu"))[0].double()
    m = torch.tensor(matrix)
    y = (m[:3, :3] @ x.flatten(1) + m[:3, 3:]).view_as(x)
    blobs = [torch.exp(-(y - torch.tensor(c).view(3, 1, 1, 1)).square().sum(0) / 13.5) for c in centres]
    some = torch.stack(blobs).float()
    return torch.cat([(1 - some.sum(0, keepdim=True)).clamp_min(0), some])


def test_a_structure_in_a_wrong_place_hardly_moves_the_affine() -> None:
    """One of 14 centroids is 12 mm off: least squares move by about a millimetre."""
    rng = np.random.default_rng(3)
    centres = np.c_[rng.uniform(-20, 20, (14, 2)), rng.uniform(-14, 14, 14)]
    matrix = affine(0.1, 0.04, 1.0)
    moving, fixed = structures(centres, matrix), structures(centres, np.eye(4))
    points = np.c_[centres, np.ones(len(centres))].T
    right = linalg.expm(affine_between(moving, fixed)) @ points
    for wrong in range(len(centres)):
        shifted = centres.copy()
        shifted[wrong, 2] += 12 if centres[wrong, 2] < 0 else -12
        found = affine_between(structures(shifted, matrix), fixed)
        source, target = np.c_[centres, np.ones(14)], np.c_[shifted, np.ones(14)] @ np.linalg.inv(matrix).T
        least_squares = np.linalg.lstsq(source, target, rcond=None)[0].T
        plain = np.linalg.norm((least_squares @ points - right)[:3], axis=0).mean()
        robust = np.linalg.norm((linalg.expm(found) @ points - right)[:3], axis=0).mean()
        assert plain > 0.7 and robust < plain / 5
        np.testing.assert_allclose(affine_between(fixed, structures(shifted, matrix)), -found, atol=1e-12)
