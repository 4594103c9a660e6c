"""How a network wants its images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from uresnet.config.checks import BadValue, Side, Within, check_numbers, require
from uresnet.core.grid import AxisCodes, directions

Zoom = Annotated[float, Within(0.01, 100)]
Margin = Annotated[int, Within(0, 1024)]

Normalisation = Literal["paper", "percentile"]
Centre = Literal["mass", "box"]


_MOST_VOXELS = 1 << 27


@dataclass(frozen=True)
class ConformSpec:
    """How a network wants its images. The defaults are those of the 2019 model.

    ``shape`` is the smallest grid; it grows, in steps of ``multiple_of`` voxels, until the brain and ``margin`` voxels
    around it fit. ``zooms`` in mm, ``axis_codes`` where the array axes point. ``centre``: the brain's centre of mass or
    the middle of its bounding box goes to voxel shape // 2, within a voxel. ``normalisation``: "paper" is the z-score
    inside the brain, cut at ±5, then minimum–maximum to [0, 1]; "percentile" takes the brain's 0.5th to 99.5th
    percentile to [0, 1]. ``blocks``: in the end, means over cubes of so many voxels a side; ``multiple_of`` has to be a
    multiple of it.
    """

    shape: tuple[Side, Side, Side] = (160, 176, 208)
    zooms: tuple[Zoom, Zoom, Zoom] = (1.0, 1.0, 1.0)
    axis_codes: AxisCodes = ("L", "I", "A")
    multiple_of: Side = 4
    normalisation: Normalisation = "paper"
    centre: Centre = "mass"
    margin: Margin = 0
    blocks: Side = 1

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for a grid that there cannot be."""
        try:
            self._check()
        except ValueError as error:
            raise BadValue(f"images cannot be conformed like this: {error}") from None

    def _check(self) -> None:
        check_numbers(self, "conform")
        require(len(self.shape) == len(self.zooms) == len(self.axis_codes) == 3, "three axes are needed")
        require(math.prod(self.shape) <= _MOST_VOXELS, f"conform.shape may have at most {_MOST_VOXELS:,} voxels")
        directions(self.axis_codes)  # raises for codes that are none
        require(self.multiple_of % self.blocks == 0, "conform.multiple_of must be a multiple of conform.blocks")
        known = self.normalisation in get_args(Normalisation) and self.centre in get_args(Centre)
        require(known, f"there is no normalisation or centre {self.normalisation}, {self.centre}")
