"""uresnet as transforms of MONAI: ``pip install uresnet monai``."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from uresnet.core.image import Image, LabelMap
from uresnet.io.in_memory import ImageSource
from uresnet.pipeline.register import register
from uresnet.pipeline.segment import segment


class RegisterTo(Transform):
    """Brings an image onto the grid of a ``fixed`` image: MetaTensor (1, I, J, K) in and out, RAS affines.

    ``options`` are those of :func:`uresnet.register`. Raises :class:`uresnet.UserError` as that does. The registration
    of the last image is kept in ``result``.

        warp = Compose([LoadImage(), EnsureChannelFirst(), RegisterTo("template.nii.gz")])
    """

    def __init__(self, fixed: ImageSource, **options: Any) -> None:
        self.fixed, self.options = fixed, options
        self.result: Any = None

    def __call__(self, image: MetaTensor) -> MetaTensor:
        self.result = register(image, self.fixed, **self.options)
        return as_meta_tensor(self.result.warped)


class Segment(Transform):
    """Segments an image: MetaTensor (1, I, J, K) of FreeSurfer ids on the same grid. ``options`` are those of
    :func:`uresnet.segment`; the segmentation of the last image, with its verdict, is kept in ``result``."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.result: Any = None

    def __call__(self, image: MetaTensor) -> MetaTensor:
        self.result = segment(image, **self.options)
        return as_meta_tensor(self.result.labels)


def as_meta_tensor(image: Image | LabelMap) -> MetaTensor:
    """(1, I, J, K) with its RAS affine."""
    return MetaTensor(image.data[None].clone(), torch.tensor(image.grid.voxel_to_world.copy()))
