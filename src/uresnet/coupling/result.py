"""What coupling two images gives: one map between their worlds and a segmentation of each."""

from __future__ import annotations

from dataclasses import dataclass

from uresnet.core.image import LabelMap, ProbabilityMap
from uresnet.core.labels import LabelScheme
from uresnet.transform import Composite

Segmented = ProbabilityMap | LabelMap
"""Probabilities of classes, or the most probable class of every voxel of 1 mm, on a conformed grid."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """A map and two segmentations.

    ``transform`` sends fixed world mm to moving world mm. The segmentations lie on the conformed grids; they are None
    from a network that does not segment. ``scheme`` says what their classes are: the network's, or one that holds
    abnormal tissue too.
    """

    transform: Composite
    moving_segmented: Segmented | None
    fixed_segmented: Segmented | None
    scheme: LabelScheme | None = None
