"""The flagship's encoder and segmentation: one image in, its structures out at full resolution.

Each image is encoded once and on its own, so that a cohort of N images needs N encodings. All convolutions run at half
the resolution or less: eight neighbouring voxels become eight channels, and every half-resolution voxel answers for its
eight voxels in the end. Features are normalised voxel by voxel, so that a crop and the whole brain see the same
network.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uresnet.config import SegmenterConfig

_SLOPE = 0.1
_CHUNK = 16_384  # half-resolution voxels whose eight times C logits are held at once
_PARTS = 8  # voxels of a block of 2 × 2 × 2


class ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of each voxel, then a learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → the same shape."""
        return F.layer_norm(x.movedim(1, -1), (x.shape[1],), self.weight, self.bias).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions, each after a normalisation and LeakyReLU, added to what came in. Starts as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1 = ChannelNorm(channels)
        self.convolution_1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm_2 = ChannelNorm(channels)
        self.convolution_2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.convolution_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → the same shape."""
        y = self.convolution_1(F.leaky_relu(self.norm_1(x), _SLOPE))
        return x + self.convolution_2(F.leaky_relu(self.norm_2(y), _SLOPE))


class Segmenter(nn.Module):
    """A U-shaped network over blocks of 2×2×2 voxels, for ``config.classes`` classes, background first."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        pairs = list(pairwise(widths))
        self.stem = nn.Conv3d(_PARTS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        self.hidden = nn.Conv3d(widths[0] + _PARTS, config.hidden, 1)
        self.head = nn.Conv3d(config.hidden, _PARTS * config.classes, 1)

    @property
    def multiple_of(self) -> int:
        """Every axis of the input must be a multiple of this."""
        return int(2 ** len(self.config.channels))

    def features(self, image: Tensor) -> Tensor:
        """image (B, 1, I, J, K) in [0, 1] → (B, hidden, I/2, J/2, K/2), what the head answers from."""
        if image.shape[1] != 1 or any(n % self.multiple_of for n in image.shape[2:]):
            raise ValueError(f"an image is (B, 1, I, J, K), axes multiples of {self.multiple_of}: {tuple(image.shape)}")
        blocks = blocks_to_channels(image).contiguous(memory_format=torch.channels_last_3d)
        x, skips = self.stem(blocks), []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
        for up, decode, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            x = decode(skip + F.interpolate(up(x), scale_factor=2, mode="nearest"))
        joined = torch.cat([F.leaky_relu(self.norm(x), _SLOPE), blocks], dim=1)
        return F.leaky_relu(self.hidden(joined), _SLOPE)

    def logits(self, features: Tensor, parts: list[int] | None = None) -> Tensor:
        """(B, V, P, C): logits of the chosen ``parts`` (0 … 7, all by default) of the V half-resolution voxels."""
        weight = self.head.weight.view(_PARTS, self.config.classes, -1)
        bias = self.head.bias.view(_PARTS, self.config.classes)  # type: ignore[union-attr]
        if parts is not None:
            weight, bias = weight[parts], bias[parts]
        flat = features.movedim(1, -1).reshape(len(features), -1, features.shape[1])
        return F.linear(flat, weight.flatten(0, 1), bias.flatten()).unflatten(-1, (-1, self.config.classes))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (1, 1, I, J, K) → most probable class of every voxel, (I, J, K) uint8, and probabilities of the classes
        averaged over blocks of 2×2×2 voxels, (C, I/2, J/2, K/2) float32.

        The logits of all classes at full resolution (0.7 GB for a brain) are never held at once.
        """
        features = self.features(image)
        half = features.shape[2:]
        classes, means = [], []
        for some in self._chunks(features):
            logits = self.logits(some)[0]
            classes.append(logits.argmax(dim=-1).to(torch.uint8))
            means.append(logits.float().softmax(dim=-1).mean(dim=1))
        probabilities = torch.cat(means).T.reshape(-1, *half).contiguous()
        return channels_to_blocks(torch.cat(classes).T.reshape(1, _PARTS, *half))[0, 0], probabilities

    @staticmethod
    def _chunks(features: Tensor) -> Iterator[Tensor]:
        flat = features.movedim(1, -1).reshape(-1, features.shape[1])
        for part in flat.split(_CHUNK):
            yield part.T[None, :, :, None, None]


def blocks_to_channels(x: Tensor) -> Tensor:
    """(B, C, I, J, K) → (B, 8 C, I/2, J/2, K/2): the voxels of each block of 2×2×2, last axis fastest."""
    b, c, i, j, k = x.shape
    split = x.reshape(b, c, i // 2, 2, j // 2, 2, k // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * _PARTS, i // 2, j // 2, k // 2)


def channels_to_blocks(x: Tensor) -> Tensor:
    """The inverse of :func:`blocks_to_channels`."""
    b, c, i, j, k = x.shape
    split = x.reshape(b, c // _PARTS, 2, 2, 2, i, j, k)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // _PARTS, 2 * i, 2 * j, 2 * k)
