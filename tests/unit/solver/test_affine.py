"""The affine of the centroids, against the one that moved them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from solver_images import affine, blobs
from uresnet.solver import affine_between


def test_the_affine_of_the_centroids_is_the_one_that_moved_them() -> None:
    one, other = affine(0.2, 0.08, 2.0), affine(-0.1, 0.0, -1.0)
    found = linalg.expm(affine_between(blobs(one).probabilities, blobs(other).probabilities))
    # Both show the same blobs: fixed x → blob → moving x.
    np.testing.assert_allclose(found, np.linalg.inv(one) @ other, atol=0.02)


def test_too_few_structures_are_said() -> None:
    nothing = torch.zeros(9, 8, 8, 8)
    with pytest.raises(ValueError, match="fewer than six"):
        affine_between(nothing, nothing)
