"""The affine between two images from the centroids of their structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uresnet.core.sampling import sample
from uresnet.solver.lattice import centred_positions, in_voxels, mapped, widened
from uresnet.transform import matrix_exponential, matrix_logarithm

_SMALLEST_MM3 = 100.0  # the centroid of a smaller structure is too uncertain
_LARGEST_WEIGHT = 100.0
_FEWEST = 6  # centroids
_ROUNDS = 2
_MOSTLY = 0.8  # of a structure
_LARGEST_SHARE_NEAR = 0.01  # of a structure, close to what is ignored
_REWEIGHTED = 3  # times
_SUREST_MM = 1.0  # no centroid is surer than this


def affine_between(
    moving: Tensor, fixed: Tensor, ignored: tuple[Tensor | None, Tensor | None] = (None, None)
) -> np.ndarray:
    """Logarithm (4, 4) of the affine from fixed to moving, mm about the middle of the grids, that brings the centroids
    of the predicted structures together.

    ``moving`` and ``fixed`` are probabilities (C, I, J, K) at 2 mm. Weighted least squares are solved in both
    directions and their logarithms averaged: exchanging the images changes the sign and nothing else. Structures that
    the others contradict count less, by Cauchy's weights, so that one that was found in a wrong place hardly moves the
    affine. A structure that reaches what is ``ignored`` in either image, (1, 1, I, J, K) at 2 mm, may be cut off, and
    its centroid is left out as long as six others remain. This affine then tells what of the other image lies there,
    and is found again from what is left, in both, of the structures that are mostly there. Raises ``ValueError`` when
    fewer than six structures are found in both.
    """
    whole = _is_whole(moving, ignored[0]) & _is_whole(fixed, ignored[1])
    found = _from_centroids(moving, fixed, whole)
    if all(part is None for part in ignored):
        return found
    near = [None if part is None else widened(part, 3) for part in ignored]
    for _ in range(_ROUNDS):
        seen_moving = _seen_in_both(near, matrix_exponential(-found), moving)
        seen_fixed = _seen_in_both(near[::-1], matrix_exponential(found), fixed)
        mostly = _mostly_seen(moving, seen_moving) & _mostly_seen(fixed, seen_fixed)
        try:
            found = _from_centroids(moving * seen_moving, fixed * seen_fixed, mostly)
        except ValueError:
            break  # next to nothing is left
    return found


def _from_centroids(moving: Tensor, fixed: Tensor, chosen: np.ndarray | None = None) -> np.ndarray:
    """The affine from the centroids of the ``chosen`` structures, (C - 1,) bool, if at least six of them are found in
    both images, else of all."""
    (moving_centroids, moving_mm3), (fixed_centroids, fixed_mm3) = _centroids(moving), _centroids(fixed)
    smaller = np.minimum(moving_mm3, fixed_mm3)
    # The larger a structure, the surer its centroid, but tissue that is everywhere must not outweigh all others.
    weights = np.where(smaller > _SMALLEST_MM3, np.minimum(np.sqrt(smaller), _LARGEST_WEIGHT), 0)
    if chosen is not None and (weights[chosen] > 0).sum() >= _FEWEST:
        weights = weights * chosen
    if (weights > 0).sum() < _FEWEST:
        raise ValueError("fewer than six structures are found in both images")
    found = _mean_of_both_ways(moving_centroids, fixed_centroids, weights)
    for _ in range(_REWEIGHTED):
        there = _apart(matrix_exponential(found), fixed_centroids, moving_centroids)
        back = _apart(matrix_exponential(-found), moving_centroids, fixed_centroids)
        off = (there + back) / 2
        usual = max(_SUREST_MM, float(np.median(off[weights > 0])))
        found = _mean_of_both_ways(moving_centroids, fixed_centroids, weights / (1 + (off / (2 * usual)) ** 2))
    return found


def _mean_of_both_ways(moving: np.ndarray, fixed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Logarithm (4, 4) of the affine from points ``fixed`` (N, 3) to ``moving``: the mean of both directions."""
    fixed_to_moving = matrix_logarithm(_least_squares(fixed, moving, weights))
    moving_to_fixed = matrix_logarithm(_least_squares(moving, fixed, weights))
    mean: np.ndarray = (fixed_to_moving - moving_to_fixed) / 2
    return mean


def _apart(affine: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,): how far ``affine`` brings points ``source`` (N, 3) from ``target``."""
    apart: np.ndarray = np.linalg.norm(source @ affine[:3, :3].T + affine[:3, 3] - target, axis=1)
    return apart


def _seen_in_both(ignored: Sequence[Tensor | None], to_other: np.ndarray, image: Tensor) -> Tensor:
    """(I, J, K): 1 where nothing is ignored, neither in an ``image`` (C, I, J, K) nor in the other one, to which
    ``to_other`` leads, else 0; ``ignored`` in the image and in the other one."""
    own, others = ignored
    seen = torch.ones(image.shape[1:], device=image.device)
    if own is not None:
        seen = seen * (own[0, 0] == 0)
    if others is not None:
        positions = centred_positions(image.shape[1:], 1.0, image.device)
        there = mapped(in_voxels(to_other, 2), positions, others.shape[2:])
        seen = seen * (sample(others, there, mode="nearest")[0, 0] == 0)
    return seen


def _mostly_seen(probabilities: Tensor, seen: Tensor) -> np.ndarray:
    """(C - 1,) bool: whether most of a structure lies where ``seen`` (I, J, K) is 1. Of one that is cut in the middle
    the centroid follows the cut, whatever the affine is."""
    mass = probabilities[1:].flatten(1)
    share: np.ndarray = (mass @ seen.flatten() / mass.sum(dim=1).clamp_min(1e-6)).cpu().numpy()
    return share > _MOSTLY


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
    near = widened(ignored, 2).flatten()
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
