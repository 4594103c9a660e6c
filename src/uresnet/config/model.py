"""What can be chosen about a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from uresnet.config.checks import Positive, Share, Width, Within, check_numbers, require
from uresnet.core.labels import label_scheme

Blocks = Annotated[int, Within(0, 64)]
Classes = Annotated[int, Within(2, 256)]
Synthesis = Annotated[int, Within(0, 1024)]
Downsampling = Annotated[int, Within(1, 2)]
_MOST_LEVELS = 8


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

    channels: tuple[Width, ...] = (4, 8, 16)
    scheme: str = "tissue3"
    segmentation: bool = True
    affine: bool = True
    deformable: bool = True
    negative_slope: Share = 0.3
    affine_linear_scale: Positive = 1.0
    affine_translation_scale: Positive = 1.0
    convention: Literal["identity_at_one", "published_2019"] = "identity_at_one"
    network: Literal["uresnet", "christodoulidis"] = "uresnet"

    def __post_init__(self) -> None:
        check_numbers(self, "model")
        label_scheme(self.scheme)
        require(2 <= len(self.channels) <= _MOST_LEVELS, f"model.channels needs 2 to {_MOST_LEVELS} levels")
        require(all(width >= 2 and width % 2 == 0 for width in self.channels), "model.channels must be even numbers")
        require(self.affine or self.deformable, "model.affine and model.deformable cannot both be off")
        segments = self.network == "christodoulidis" and self.segmentation
        require(not segments, "model.network christodoulidis does not segment: set model.segmentation to false")


@dataclass(frozen=True)
class SegmenterConfig:
    """The network of a midspace model: an encoder and decoder that segment one image.

    ``channels`` are the widths of the levels, the first at half the images' resolution, each other at half the
    resolution of the one before. ``blocks`` are the numbers of residual blocks in the encoder's levels. ``hidden`` is
    the number of features from which the ``classes`` classes, background included, are computed. ``synthesis`` is the
    width of the layers that predict, from the same features, the T1-weighted image of the same brain; 0: it does not.
    ``downsampling`` 2: the network sees means over blocks of 2×2×2 voxels, an eighth of the work, and its logits are
    interpolated.
    """

    channels: tuple[Width, ...] = (24, 48, 80, 96)
    blocks: tuple[Blocks, ...] = (1, 1, 2, 2)
    hidden: Width = 64
    classes: Classes = 33
    synthesis: Synthesis = 0
    downsampling: Downsampling = 1

    def __post_init__(self) -> None:
        check_numbers(self, "segmenter")
        require(1 <= len(self.channels) <= _MOST_LEVELS, f"segmenter.channels needs one to {_MOST_LEVELS} levels")
        require(
            len(self.channels) == len(self.blocks), "segmenter.channels and segmenter.blocks must have the same length"
        )
