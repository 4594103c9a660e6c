"""The affine between two images from the centroids of their structures."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from uresnet.solver.lattice import centred_positions
from uresnet.transform import matrix_logarithm

_SMALLEST_MM3 = 100.0  # the centroid of a smaller structure is too uncertain
_LARGEST_WEIGHT = 100.0
_LARGEST_SHARE_NEAR = 0.01  # of a structure, close to what is ignored


def affine_between(
    moving: Tensor, fixed: Tensor, ignored: tuple[Tensor | None, Tensor | None] = (None, None)
) -> np.ndarray:
    """Logarithm (4, 4) of the affine from fixed to moving, mm about the middle of the grids, that brings the centroids
    of the predicted structures together.

    ``moving`` and ``fixed`` are probabilities (C, I, J, K) at 2 mm. Weighted least squares are solved in both
    directions and their logarithms averaged: exchanging the images changes the sign and nothing else. A structure that
    reaches what is ``ignored`` in either image, (1, 1, I, J, K) at 2 mm, may be cut off, and its centroid is left out
    as long as six others remain. Raises ``ValueError`` when fewer than six structures are found in both.
    """
    (moving_centroids, moving_mm3), (fixed_centroids, fixed_mm3) = _centroids(moving), _centroids(fixed)
    smaller = np.minimum(moving_mm3, fixed_mm3)
    # The larger a structure, the surer its centroid, but tissue that is everywhere must not outweigh all others.
    weights = np.where(smaller > _SMALLEST_MM3, np.minimum(np.sqrt(smaller), _LARGEST_WEIGHT), 0)
    whole = _is_whole(moving, ignored[0]) & _is_whole(fixed, ignored[1])
    if (weights[whole] > 0).sum() >= 6:
        weights = weights * whole
    if (weights > 0).sum() < 6:
        raise ValueError("fewer than six structures are found in both images")
    fixed_to_moving = _least_squares(fixed_centroids, moving_centroids, weights)
    moving_to_fixed = _least_squares(moving_centroids, fixed_centroids, weights)
    mean: np.ndarray = (matrix_logarithm(fixed_to_moving) - matrix_logarithm(moving_to_fixed)) / 2
    return mean


def _centroids(probabilities: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (C - 1, 3), mm about the grid's middle, and volumes (C - 1,), mm³, of all classes but the first."""
    where = centred_positions(probabilities.shape[1:], 2.0, probabilities.device)[0].flatten(1)
    mass = probabilities[1:].flatten(1)
    total = mass.sum(dim=1)
    centroids = mass @ where.T / total.clamp_min(1e-6)[:, None]
    return centroids.double().cpu().numpy(), total.double().cpu().numpy() * 8


def _is_whole(probabilities: Tensor, ignored: Tensor | None) -> np.ndarray:
    """(C - 1,) bool: whether next to nothing of a structure lies within 4 mm of what is ``ignored``."""
    if ignored is None:
        return np.ones(len(probabilities) - 1, dtype=bool)
    near = F.max_pool3d(ignored, 5, stride=1, padding=2).flatten()
    mass = probabilities[1:].flatten(1)
    share: np.ndarray = (mass @ near / mass.sum(dim=1).clamp_min(1e-6)).cpu().numpy()
    return share < _LARGEST_SHARE_NEAR


def _least_squares(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The affine (4, 4) that brings points ``source`` (N, 3) closest to ``target``."""
    root = np.sqrt(weights)[:, None]
    solution = np.linalg.lstsq(np.c_[source, np.ones(len(source))] * root, target * root, rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3] = solution.T
    return matrix
