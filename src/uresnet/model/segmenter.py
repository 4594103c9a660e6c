"""The flagship's segmenter: one image in, class logits at full resolution out.

All convolutions run at half resolution: the image enters as 2×2×2 blocks (space to depth) and the logits leave as
2×2×2 blocks (depth to space), so that boundaries are drawn at full resolution for an eighth of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def space_to_depth(volume: Tensor) -> Tensor:
    """(B, C, 2I, 2J, 2K) → (B, 8·C, I, J, K); every 2×2×2 block becomes channels."""
    b, c, i, j, k = volume.shape
    blocks = volume.view(b, c, i // 2, 2, j // 2, 2, k // 2, 2)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * 8, i // 2, j // 2, k // 2)


def depth_to_space(volume: Tensor) -> Tensor:
    """(B, 8·C, I, J, K) → (B, C, 2I, 2J, 2K); the inverse of :func:`space_to_depth`."""
    b, c8, i, j, k = volume.shape
    blocks = volume.view(b, c8 // 8, 2, 2, 2, i, j, k)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c8 // 8, i * 2, j * 2, k * 2)


class ConvNormAct(nn.Sequential):
    """3×3×3 convolution, instance normalisation, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.1, inplace=True),
        )


class SegmentationNet(nn.Module):
    """U-Net on 2×2×2 blocks.

    Args:
        classes: number of classes, background included.
        widths: channels at 2, 4, 8, … mm (for a 1 mm image); one down-sampling between neighbours.

    ``forward`` takes (B, 1, I, J, K) in [0, 1], sides divisible by ``multiple_of``, and returns logits
    (B, classes, I, J, K).
    """

    def __init__(self, classes: int = 34, widths: Sequence[int] = (32, 64, 128, 160)) -> None:
        super().__init__()
        self.classes, self.widths = classes, tuple(widths)
        self.multiple_of = 2 ** len(widths)
        first = self.widths[0]
        self.stem = nn.Sequential(ConvNormAct(8, first), ConvNormAct(first, first))
        self.down = nn.ModuleList(
            nn.Sequential(ConvNormAct(a, b, stride=2), ConvNormAct(b, b))
            for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(ConvNormAct(a + b, a), ConvNormAct(a, a))
            for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        self.head = nn.Conv3d(first, 8 * classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = [self.stem(space_to_depth(image))]
        for block in self.down:
            features.append(block(features[-1]))
        x = features[-1]
        for skip, block in zip(reversed(features[:-1]), reversed(self.up), strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return depth_to_space(self.head(x))
