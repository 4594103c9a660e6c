"""U-ReSNet: one small network that registers a pair and segments its moving image (paper §3.1, Fig. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uresnet.config import ModelConfig
from uresnet.core.labels import label_scheme
from uresnet.model.decoder import Decoder
from uresnet.model.encoder import Encoder
from uresnet.model.heads import AffineHead, DeformableHead, SegmentationHead


@dataclass(frozen=True)
class UResNetOutput:
    """What the network predicts for a pair.

    ``spatial_gradients`` (B, 3, I, J, K) in [0, 2], component c along array axis c; ``affine`` (B, 3, 4), identity
    included, in voxels, about the point that ``config.convention`` names (the grid's centre in ours);
    ``segmentation_logits`` (B, C, I, J, K) of the moving image, or None for a registration-only network.
    """

    spatial_gradients: Tensor
    affine: Tensor
    segmentation_logits: Tensor | None


def placed(network: nn.Module, device: torch.device | str, channels_last: bool | None = None) -> nn.Module:
    """The network on ``device``, its weights in the order that convolutions are fastest with there.

    ``channels_last`` None is channels last on a CPU, where a step of training then takes less than half the time
    (convolutions with few channels otherwise miss oneDNN's kernels), and channels first elsewhere.
    """
    last = torch.device(device).type == "cpu" if channels_last is None else channels_last
    order = torch.channels_last_3d if last else torch.contiguous_format
    moved: nn.Module = network.to(device=device, memory_format=order)  # type: ignore[call-overload]
    return moved


class UResNet(nn.Module):
    """The network of the paper; with the default configuration 39,183 weights, 24,631 without segmentation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        slope = config.negative_slope
        self.config = config
        self.encoder = Encoder(config.channels, slope)
        self.deformable_decoder = Decoder(config.channels, slope)
        width = self.deformable_decoder.channels_out
        self.deformable_head = DeformableHead(width, slope)
        self.affine_head = AffineHead(width, config.affine_linear_scale, config.affine_translation_scale)
        self.segmentation_decoder: Decoder | None = None
        self.segmentation_head: SegmentationHead | None = None
        if config.segmentation:
            self.segmentation_decoder = Decoder(config.channels, slope)
            classes = label_scheme(config.scheme).number_of_classes
            self.segmentation_head = SegmentationHead(width, classes, slope)
        self.reset_parameters()

    @property
    def multiple_of(self) -> int:
        """Every axis of the input must be a multiple of this."""
        return int(2 ** (len(self.config.channels) - 1))

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and zero biases; the last layers of deformation and affine zero: the identity."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.deformable_head.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.affine_head.dense.weight)

    def forward(self, moving: Tensor, fixed: Tensor) -> UResNetOutput:
        """moving, fixed (B, 1, I, J, K) in [0, 1], each axis a multiple of ``multiple_of``. ValueError otherwise."""
        if moving.shape != fixed.shape or any(n % self.multiple_of for n in moving.shape[2:]):
            raise ValueError(
                f"moving {tuple(moving.shape)} and fixed {tuple(fixed.shape)} must have one shape (B, 1, I, J, K), "
                f"each axis a multiple of {self.multiple_of}"
            )
        features = self.encoder(torch.cat([moving, fixed], dim=1))
        decoded = self.deformable_decoder(features)
        gradients = self.deformable_head(decoded)
        affine = self.affine_head(decoded)
        if not self.config.deformable:
            gradients = torch.ones_like(gradients)
        if not self.config.affine:
            affine = torch.eye(3, 4, dtype=affine.dtype, device=affine.device).expand_as(affine)
        logits = None
        if self.segmentation_decoder is not None and self.segmentation_head is not None:
            logits = self.segmentation_head(self.segmentation_decoder(features))
        return UResNetOutput(gradients, affine, logits)
