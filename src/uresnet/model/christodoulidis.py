"""The network of Christodoulidis et al. 2018 (arXiv 1809.06226), the paper's learned baseline: registration only.

Everything is computed at the resolution of the input, on 290 channels: about 22 GiB of memory for a pair of the paper's
size, and 69 GiB to train on one (``docs/method.md``). Half the resolution takes an eighth of that.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from uresnet.config import ModelConfig
from uresnet.model.heads import AffineHead
from uresnet.model.network import UResNet, UResNetOutput

CHANNELS = (32, 64, 128, 32, 32)
"""Widths of the five encoder convolutions. With the pair they add up to the 290 features that the article gives."""

DILATIONS = (1, 1, 2, 3, 5)
"""Their sum is 12, and a 3×3×3 kernel reaches one dilation to each side: a receptive field of 25³ voxels."""

DECODER = (128, 64, 32, 32, 32)
"""Widths of the undilated convolutions between the merged features and the spatial gradients."""

REDUCTION = 16
"""Of the squeeze; the article names none, this is the one of Hu et al. 2018."""


class ConvolutionBlock(nn.Sequential):
    """3×3×3 convolution, instance normalisation, LeakyReLU: (B, C, I, J, K) → (B, channels_out, I, J, K)."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int, negative_slope: float) -> None:
        super().__init__(
            # The normalisation takes the mean away, and a bias with it.
            nn.Conv3d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False),
            nn.InstanceNorm3d(channels_out, affine=True),
            nn.LeakyReLU(negative_slope, inplace=True),
        )


class SqueezeExcitation(nn.Module):
    """Weighs every channel between 0 and 1, depending on the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → the same shape."""
        weights: Tensor = self.weights(x.mean(dim=(2, 3, 4)))
        return x * weights[:, :, None, None, None].to(x.dtype)


class GradientBranch(nn.Module):
    """Squeeze and excitation, convolutions, 2 · sigmoid: the spatial gradients in [0, 2]."""

    def __init__(self, channels: int, negative_slope: float) -> None:
        super().__init__()
        self.excitation = SqueezeExcitation(channels)
        blocks = [ConvolutionBlock(a, b, 1, negative_slope) for a, b in pairwise((channels, *DECODER))]
        self.layers = nn.Sequential(*blocks, nn.Conv3d(DECODER[-1], 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, 3, I, J, K), float32 at least, component c along array axis c."""
        logits = self.layers(self.excitation(x))
        return 2 * torch.sigmoid(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits)


class Christodoulidis(nn.Module):
    """A pair in, spatial gradients and an affine out; 1 for the gradients and the identity where training starts."""

    multiple_of = 1
    """Any shape is accepted: nothing is halved."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        widths = (2, *CHANNELS)
        self.encoder = nn.ModuleList(
            ConvolutionBlock(a, b, d, config.negative_slope)
            for (a, b), d in zip(pairwise(widths), DILATIONS, strict=True)
        )
        self.deformable_head = GradientBranch(sum(widths), config.negative_slope)
        self.affine_head = AffineHead(sum(widths), config.affine_linear_scale, config.affine_translation_scale)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and zero biases; the last layer of each branch zero: the identity."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.deformable_head.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.affine_head.dense.weight)

    def features(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """moving, fixed (B, 1, I, J, K) → the pair and the outputs of all encoder blocks, (B, 290, I, J, K)."""
        found = [torch.cat([moving, fixed], dim=1)]
        for block in self.encoder:
            found.append(block(found[-1]))
        return torch.cat(found, dim=1)

    def forward(self, moving: Tensor, fixed: Tensor) -> UResNetOutput:
        """moving, fixed (B, 1, I, J, K) in [0, 1] of one shape. ``ValueError`` otherwise."""
        if moving.shape != fixed.shape:
            raise ValueError(f"moving {tuple(moving.shape)} and fixed {tuple(fixed.shape)} must have one shape")
        merged = self.features(moving, fixed)
        affine = self.affine_head(merged)
        gradients = self.deformable_head(merged)
        if not self.config.deformable:
            gradients = torch.ones_like(gradients)
        if not self.config.affine:
            affine = torch.eye(3, 4, dtype=affine.dtype, device=affine.device).expand_as(affine)
        return UResNetOutput(gradients, affine, None)


PairNetwork = UResNet | Christodoulidis
"""A network that takes a pair and predicts spatial gradients and an affine."""


def pair_network(config: ModelConfig) -> PairNetwork:
    """The network that ``config.network`` names, at the identity."""
    return Christodoulidis(config) if config.network == "christodoulidis" else UResNet(config)
