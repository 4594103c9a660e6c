"""What every transform can do.

A transform maps points of the fixed world to points of the moving world, RAS+ millimetres (a pull-back): it is the map
that resamples a moving image onto a fixed grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from uresnet.core.grid import Grid
from uresnet.errors import UserError


class Transform(ABC):
    """A map from one world to another, millimetres.

    ``domain`` and ``codomain`` are tags: a grid of the image (or mid-space) whose world the points come from and go to,
    or None where nobody said. They take no part in the arithmetic; composition uses them to refuse what does not meet.
    """

    domain: Grid | None
    codomain: Grid | None

    @overload
    def apply(self, points: Tensor) -> Tensor: ...
    @overload
    def apply(self, points: np.ndarray | Sequence[float] | Sequence[Sequence[float]]) -> np.ndarray: ...

    def apply(self, points: Tensor | np.ndarray | Sequence[float] | Sequence[Sequence[float]]) -> Tensor | np.ndarray:
        """Map points (..., 3) of the fixed world, RAS mm, to the moving world, (..., 3) RAS mm.

        A tensor of any floating dtype gives a tensor of that dtype; anything else a numpy array of float64. Raises
        :class:`UserError` for what is no list of points.

        >>> from uresnet.transform import Affine
        >>> Affine([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]).apply([[1, 2, 3], [0, 0, -1]]).tolist()
        [[6.0, 2.0, 6.0], [5.0, 0.0, -2.0]]
        """
        if isinstance(points, Tensor):
            return self._map(points)
        try:
            array = np.array(points, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.ndim < 1 or array.shape[-1] != 3:
            kind = f"of shape {np.shape(points)}" if isinstance(points, np.ndarray) else "no list of points"
            raise UserError(f"transform.apply: points is {kind}; give (N, 3) numbers, RAS millimetres.")
        return self._map(torch.from_numpy(array)).numpy()

    @abstractmethod
    def _map(self, points: Tensor) -> Tensor:
        """World points (..., 3), mm, to (..., 3) of the same dtype."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The map back. Where it has to be solved for, its residual is recorded on the part that was solved."""

    @property
    def parts(self) -> tuple[Transform, ...]:
        """The elementary transforms in the order in which they are applied to a point."""
        return (self,)
