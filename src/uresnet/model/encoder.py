"""The shared encoder of U-ReSNet (paper §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class InputBlock(nn.Module):
    """3×3×3 convolution and LeakyReLU, to which the input, tiled to the same width, is added."""

    def __init__(self, channels_in: int, channels_out: int, negative_slope: float) -> None:
        super().__init__()
        if channels_out % channels_in:
            raise ValueError(f"{channels_in} input channels cannot be tiled to {channels_out}")
        self.tiles = channels_out // channels_in
        self.convolution = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.activation = nn.LeakyReLU(negative_slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, channels_out, I, J, K)."""
        features: Tensor = self.activation(self.convolution(x)) + torch.cat([x] * self.tiles, dim=1)
        return features


class DownBlock(nn.Module):
    """2×2×2 convolution of stride 2, then a 3×3×3 one; LeakyReLU after each. Halves every axis."""

    def __init__(self, channels_in: int, channels_out: int, negative_slope: float) -> None:
        super().__init__()
        self.down = nn.Conv3d(channels_in, channels_out, 2, stride=2)
        self.convolution = nn.Conv3d(channels_out, channels_out, 3, padding=1)
        self.activation = nn.LeakyReLU(negative_slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, channels_out, I/2, J/2, K/2)."""
        features: Tensor = self.activation(self.convolution(self.activation(self.down(x))))
        return features


class Encoder(nn.Module):
    """Features of the stacked pair at every level, the finest first."""

    def __init__(self, channels: Sequence[int], negative_slope: float, channels_in: int = 2) -> None:
        super().__init__()
        self.input = InputBlock(channels_in, channels[0], negative_slope)
        self.levels = nn.ModuleList(DownBlock(fine, coarse, negative_slope) for fine, coarse in pairwise(channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 2, I, J, K) → [(B, channels[l], I/2^l, J/2^l, K/2^l) for every level l]."""
        features = [self.input(x)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features
