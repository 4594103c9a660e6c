"""What every transform can do.

A transform maps points of the fixed world to points of the moving world, RAS+ millimetres (a pull-back): it is the map
that resamples a moving image onto a fixed grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from uresnet.core.grid import Grid


class Transform(ABC):
    """A map from one world to another, millimetres.

    ``domain`` and ``codomain`` are tags: a grid of the image (or mid-space) whose world the points come from and go to,
    or None where nobody said. They take no part in the arithmetic; composition uses them to refuse what does not meet.
    """

    domain: Grid | None
    codomain: Grid | None

    @abstractmethod
    def apply(self, points: Tensor) -> Tensor:
        """Map world points (..., 3), mm, any floating dtype, to (..., 3) of the same dtype."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The map back. Where it has to be solved for, its residual is recorded on the part that was solved."""

    @property
    def parts(self) -> tuple[Transform, ...]:
        """The elementary transforms in the order in which they are applied to a point."""
        return (self,)
