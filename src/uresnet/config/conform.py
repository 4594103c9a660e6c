"""How a network wants its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uresnet.core.grid import AxisCodes, Shape, directions

Normalisation = Literal["paper", "percentile"]
Centre = Literal["mass", "box"]


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

    shape: Shape = (160, 176, 208)
    zooms: tuple[float, float, float] = (1.0, 1.0, 1.0)
    axis_codes: AxisCodes = ("L", "I", "A")
    multiple_of: int = 4
    normalisation: Normalisation = "paper"
    centre: Centre = "mass"
    margin: int = 0
    blocks: int = 1

    def __post_init__(self) -> None:
        directions(self.axis_codes)  # raises for codes that are none
        if (
            len(self.shape) != 3
            or min(self.shape) < 1
            or min(self.zooms) <= 0
            or self.multiple_of < 1
            or self.margin < 0
            or self.blocks < 1
            or self.multiple_of % self.blocks
        ):
            raise ValueError(f"not a grid that images can be conformed to: {self}")
        if self.normalisation not in ("paper", "percentile") or self.centre not in ("mass", "box"):
            raise ValueError(f"no such normalisation or centre: {self.normalisation}, {self.centre}")
