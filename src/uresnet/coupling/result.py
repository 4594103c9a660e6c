"""What coupling two images gives: one map between their worlds and a segmentation of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uresnet.core.image import LabelMap, ProbabilityMap
from uresnet.core.labels import LabelScheme
from uresnet.transform import Composite

Segmented = ProbabilityMap | LabelMap
"""Probabilities of classes, or the most probable class of every voxel of 1 mm, on a conformed grid."""

Expected = Mapping[int, float]
"""By FreeSurfer id, the Dice of each structure that was found with a truth that is as the network's probabilities say
(:func:`uresnet.measures.overlap.expected_dice`)."""


@dataclass(frozen=True, eq=False)
class Structures:
    """One image segmented: ``segmented`` on its conformed grid, in classes of ``scheme``, and what is ``expected`` of
    it, None from a network that sees images in pairs."""

    segmented: Segmented
    scheme: LabelScheme
    expected: Expected | None = None


@dataclass(frozen=True, eq=False)
class Coupling:
    """A map and two segmentations.

    ``transform`` sends fixed world mm to moving world mm. The segmentations lie on the conformed grids; they are None
    from a network that does not segment. ``scheme`` says what their classes are: the network's, or one that holds
    abnormal tissue too. What is expected of the segmentations is as in :class:`Structures`.
    """

    transform: Composite
    moving_segmented: Segmented | None
    fixed_segmented: Segmented | None
    scheme: LabelScheme | None = None
    moving_expected: Expected | None = None
    fixed_expected: Expected | None = None
