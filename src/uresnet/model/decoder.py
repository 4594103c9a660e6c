"""The decoder of U-ReSNet (paper §3.1); the deformation and the segmentation have one each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class UpBlock(nn.Module):
    """Transposed 2×2×2 convolution, the skip appended, a 3×3×3 convolution, and what went into it added."""

    def __init__(self, channels_in: int, channels_up: int, channels_skip: int, negative_slope: float) -> None:
        super().__init__()
        self.channels_out = channels_up + channels_skip
        self.up = nn.ConvTranspose3d(channels_in, channels_up, 2, stride=2)
        self.convolution = nn.Conv3d(self.channels_out, self.channels_out, 3, padding=1)
        self.activation = nn.LeakyReLU(negative_slope, inplace=True)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x (B, C, I/2, J/2, K/2), skip (B, channels_skip, I, J, K) → (B, channels_out, I, J, K)."""
        joined = torch.cat([self.activation(self.up(x)), skip], dim=1)
        features: Tensor = self.activation(self.convolution(joined)) + joined
        return features


class Decoder(nn.Module):
    """From the coarsest features back to the resolution of the input."""

    def __init__(self, channels: Sequence[int], negative_slope: float) -> None:
        super().__init__()
        blocks: list[UpBlock] = []
        width = channels[-1]
        for coarse, fine in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True):
            blocks.append(UpBlock(width, coarse // 2, fine, negative_slope))
            width = blocks[-1].channels_out
        self.blocks = nn.ModuleList(blocks)
        self.channels_out = width

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's features, finest first → (B, channels_out, I, J, K)."""
        x = features[-1]
        for block, skip in zip(self.blocks, reversed(features[:-1]), strict=True):
            x = block(x, skip)
        return x
