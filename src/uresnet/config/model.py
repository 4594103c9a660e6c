"""What can be chosen about a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uresnet.config.checks import require
from uresnet.core.labels import label_scheme


@dataclass(frozen=True)
class ModelConfig:
    """The U-ReSNet network. The defaults are the published joint network (39,183 weights).

    ``scheme`` names the label scheme of the segmentation; ``segmentation=False`` leaves out its decoder and head
    (registration only, 24,631 weights). ``channels`` are the widths of the encoder's levels, each level at half the
    resolution of the one before.

    The affine head's twelve numbers are multiplied by ``affine_linear_scale`` (matrix) and ``affine_translation_scale``
    (voxels). The paper's are 1 and 1: a unit step of the optimiser then moves the edge of the brain by tens of voxels
    through the matrix, and by one voxel through the translation. With a translation scale near half the grid, both
    move it equally far.
    ``deformable=False`` and ``affine=False`` leave that component at the identity.
    ``convention`` names how gradients and affine become a map: a value of
    :class:`uresnet.transform.deformation.GridConvention`.

    ``network`` "christodoulidis" is the baseline of 2018. It does not segment and its widths are fixed; of the keys
    above it uses those of the affine, the slope and the convention.
    """

    channels: tuple[int, ...] = (4, 8, 16)
    scheme: str = "tissue3"
    segmentation: bool = True
    affine: bool = True
    deformable: bool = True
    negative_slope: float = 0.3
    affine_linear_scale: float = 1.0
    affine_translation_scale: float = 1.0
    convention: Literal["identity_at_one", "published_2019"] = "identity_at_one"
    network: Literal["uresnet", "christodoulidis"] = "uresnet"

    def __post_init__(self) -> None:
        label_scheme(self.scheme)
        require(len(self.channels) >= 2, "model.channels needs at least two levels")
        require(all(width >= 2 and width % 2 == 0 for width in self.channels), "model.channels must be even numbers")
        require(self.affine or self.deformable, "model.affine and model.deformable cannot both be off")
        segments = self.network == "christodoulidis" and self.segmentation
        require(not segments, "model.network christodoulidis does not segment: set model.segmentation to false")


@dataclass(frozen=True)
class SegmenterConfig:
    """The network of a midspace model: an encoder and decoder that segment one image.

    ``channels`` are the widths of the levels, the first at half the images' resolution, each other at half the
    resolution of the one before. ``blocks`` are the numbers of residual blocks in the encoder's levels. ``hidden`` is
    the number of features from which the ``classes`` classes, background included, are computed.
    """

    channels: tuple[int, ...] = (24, 48, 80, 96)
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    hidden: int = 64
    classes: int = 33

    def __post_init__(self) -> None:
        require(len(self.channels) == len(self.blocks), "model.channels and model.blocks must have the same length")
