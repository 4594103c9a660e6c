"""The affine between two images from the centroids of their structures."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from uresnet.solver.lattice import centred_positions
from uresnet.transform import matrix_logarithm

_SMALLEST_MM3 = 100.0  # the centroid of a smaller structure is too uncertain
_LARGEST_WEIGHT = 100.0


def affine_between(moving: Tensor, fixed: Tensor) -> np.ndarray:
    """Logarithm (4, 4) of the affine from fixed to moving, mm about the middle of the grids, that brings the centroids
    of the predicted structures together.

    ``moving`` and ``fixed`` are probabilities (C, I, J, K) at 2 mm. Weighted least squares are solved in both
    directions and their logarithms averaged: exchanging the images changes the sign and nothing else. Raises
    ``ValueError`` when fewer than six structures are found in both.
    """
    (moving_centroids, moving_mm3), (fixed_centroids, fixed_mm3) = _centroids(moving), _centroids(fixed)
    smaller = np.minimum(moving_mm3, fixed_mm3)
    # The larger a structure, the surer its centroid, but tissue that is everywhere must not outweigh all others.
    weights = np.where(smaller > _SMALLEST_MM3, np.minimum(np.sqrt(smaller), _LARGEST_WEIGHT), 0)
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


def _least_squares(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The affine (4, 4) that brings points ``source`` (N, 3) closest to ``target``."""
    root = np.sqrt(weights)[:, None]
    solution = np.linalg.lstsq(np.c_[source, np.ones(len(source))] * root, target * root, rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3] = solution.T
    return matrix
