"""Affine maps of the world and the algebra of their 4×4 matrices (float64, RAS+ mm)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from uresnet.core.grid import Grid
from uresnet.transform.base import Transform

Vector = Sequence[float] | np.ndarray  # three numbers

# Far outside what heads need (a brain is scaled by 0.7 to 1.4), far inside what float32 can invert.
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-3, 1e3


@dataclass(frozen=True, eq=False)
class Affine(Transform):
    """``matrix`` (4, 4) float64: fixed world → moving world, RAS+ mm.

    Raises ``ValueError`` when the matrix is not finite, not affine, singular, or scales by less than 0.001 or more
    than 1000 in any direction.
    """

    matrix: np.ndarray
    domain: Grid | None = None
    codomain: Grid | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", checked_matrix(self.matrix))

    @classmethod
    def identity(cls) -> Affine:
        """The map that leaves every point where it is."""
        return cls(np.eye(4))

    def _map(self, points: Tensor) -> Tensor:
        matrix = torch.tensor(self.matrix).to(points)
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def inverse(self) -> Affine:
        return Affine(np.linalg.inv(self.matrix), domain=self.codomain, codomain=self.domain)

    def then(self, following: Affine) -> Affine:
        """This map first, ``following`` after it, as one affine."""
        return Affine(following.matrix @ self.matrix, domain=self.domain, codomain=following.codomain)


def checked_matrix(matrix: np.ndarray) -> np.ndarray:
    """A read-only float64 copy of a sound affine matrix; ``ValueError`` says what is wrong with any other."""
    out = np.array(matrix, dtype=np.float64)
    if out.shape != (4, 4):
        raise ValueError(f"an affine is a 4×4 matrix, not one of shape {out.shape}")
    if not np.isfinite(out).all():
        raise ValueError("the affine holds values that are not finite")
    if not np.allclose(out[3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"the last row of an affine is 0 0 0 1, not {out[3]}")
    out[3] = [0, 0, 0, 1]
    scales = np.linalg.svd(out[:3, :3], compute_uv=False)
    if scales[-1] < _SMALLEST_SCALE or scales[0] > _LARGEST_SCALE:
        raise ValueError(f"the affine is singular or close to it: it scales by {scales[-1]:.3g} to {scales[0]:.3g}")
    out.setflags(write=False)
    return out


def about(linear: np.ndarray, translation: Vector, centre: Vector) -> np.ndarray:
    """(4, 4) of ``y = linear (x - centre) + centre + translation``."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(translation, float) + np.asarray(centre, float) - matrix[:3, :3] @ np.asarray(centre)
    return matrix


def closest_rigid(matrix: np.ndarray, centre: Vector = (0.0, 0.0, 0.0)) -> np.ndarray:
    """The rotation and translation (4, 4) nearest to an affine, which sends ``centre`` (mm) where the affine does.

    The rotation is the orthogonal factor of the polar decomposition (nearest in the Frobenius norm). A matrix that
    mirrors has no rotation near it: ``ValueError``.
    """
    linear = checked_matrix(matrix)[:3, :3]
    if np.linalg.det(linear) <= 0:
        raise ValueError("the affine mirrors space: no rigid motion is close to it")
    rotation, _ = linalg.polar(linear)
    target = linear @ np.asarray(centre, float) + np.asarray(matrix)[:3, 3]
    return about(rotation, target - np.asarray(centre, float), centre)


def matrix_logarithm(matrix: np.ndarray) -> np.ndarray:
    """Real principal logarithm (4, 4) of an affine; ``ValueError`` where there is none (a mirror, a half turn)."""
    log = linalg.logm(checked_matrix(matrix))
    size = np.abs(np.asarray(matrix)).max()
    wrong = not np.isfinite(log).all() or np.abs(np.imag(log)).max() > 1e-6
    if wrong or np.abs(linalg.expm(log) - matrix).max() > 1e-8 * size:
        raise ValueError("the affine mirrors space or turns by 180°: it has no real logarithm")
    out: np.ndarray = np.real(log).copy()
    out[3] = np.round(out[3])  # exactly 0 0 0 0
    return out


def matrix_exponential(logarithm: np.ndarray) -> np.ndarray:
    """The affine (4, 4) whose principal logarithm this is."""
    return checked_matrix(linalg.expm(np.asarray(logarithm, dtype=np.float64)))
