"""Changes of shape that examples share: affine maps, mirroring, and ventricles that grow."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.core.sampling import sample
from uresnet.training.data.classes import mirror_table
from uresnet.training.examples.draws import fraction

_VENTRICLES = (4, 43)
_SLOPE_MM = 8.0  # blur of the ventricles' mask along whose slope they grow


def ventricle_slope(labels: Tensor) -> Tensor:
    """The slope of the blurred mask of the lateral ventricles, (3, I/2, J/2, K/2) float16, of largest length 1.

    It points into the ventricles; an image that is read some way along it has wider ventricles. ``labels``
    (1, I, J, K) are FreeSurfer ids.
    """
    mask = torch.isin(labels[0].cpu(), torch.tensor(_VENTRICLES, dtype=labels.dtype)).float()
    blurred = ndimage.gaussian_filter(F.avg_pool3d(mask[None, None], 2)[0, 0].numpy(), _SLOPE_MM / 2)
    slope = torch.from_numpy(np.stack(np.gradient(blurred)))
    normalised: Tensor = slope / slope.norm(dim=0).max().clamp(min=1e-6)
    return normalised.half().to(labels.device)


def grown_ventricles(
    coordinates: Tensor, slope: Tensor, growth_mm: tuple[float, ...], generator: torch.Generator, side: int = 1
) -> Tensor:
    """``coordinates`` (1, 3, i, j, k) moved so that the image read there has larger ventricles.

    ``slope`` is the image's :func:`ventricle_slope`, ``growth_mm`` (from, to) the range of the random growth.
    Coordinates are in voxels that are means over blocks of ``side`` full voxels of 1 mm.
    """
    low, high = growth_mm
    growth = low + (high - low) * fraction(generator)
    full_voxels = side * coordinates + (side - 1) / 2
    return coordinates + growth / side * sample(slope[None].float(), full_voxels / 2 - 0.25)


def mirror_slope(slope: Tensor) -> Tensor:
    """The :func:`ventricle_slope` of the image that :func:`mirror` makes."""
    flipped = slope.flip(1)
    flipped[0].neg_()
    return flipped


def linear_map(angles: Tensor, scales: Tensor, shears: Tensor) -> Tensor:
    """Matrices (B, 3, 3): a stretch by ``scales`` (B, 3) with the ``shears`` (B, 3) of axes (0, 1), (0, 2) and (1, 2),
    then a rotation about the axis ``angles`` (B, 3) by its length in radians."""
    a, b, c = angles.unbind(dim=1)
    zero = torch.zeros_like(a)
    spin = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).view(-1, 3, 3)
    stretch = torch.diag_embed(scales)
    stretch[:, 0, 1], stretch[:, 0, 2], stretch[:, 1, 2] = shears.unbind(dim=1)
    matrices: Tensor = torch.linalg.matrix_exp(spin) @ stretch
    return matrices


def mirror(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange left and right: reverse the first spatial axis (conformed images have left–right there) and the ids."""
    return images.flip(2), mirror_table(labels.device)[labels.long()].flip(2)
