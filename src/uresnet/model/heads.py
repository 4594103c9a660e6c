"""The three heads of U-ReSNet (paper §3.1, §3.2): spatial gradients, affine, segmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _three_convolutions(channels: int, channels_out: int, negative_slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, channels, 3, padding=1),
        nn.LeakyReLU(negative_slope, inplace=True),
        nn.Conv3d(channels, channels, 3, padding=1),
        nn.LeakyReLU(negative_slope, inplace=True),
        nn.Conv3d(channels, channels_out, 3, padding=1),
    )


class DeformableHead(nn.Module):
    """Spatial gradients of the deformation in [0, 2]; 1, where it starts, means no deformation."""

    def __init__(self, channels: int, negative_slope: float) -> None:
        super().__init__()
        self.layers = _three_convolutions(channels, 3, negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, 3, I, J, K), float32 at least, component c along array axis c."""
        # A half-precision gradient near 1 is off by up to 0.004, and the cumulative sum would add that up.
        logits = self.layers(x)
        return 2 * torch.sigmoid(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits)


class AffineHead(nn.Module):
    """Twelve numbers from the global average of the features: offsets from the identity."""

    def __init__(self, channels: int, linear_scale: float, translation_scale: float) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, 12)
        self.scale: Tensor
        scale = torch.tensor([[linear_scale] * 3 + [translation_scale]] * 3)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, 3, 4), the identity included; the last column in voxels."""
        with torch.autocast(device_type=x.device.type, enabled=False):
            mean = x.to(self.dense.weight.dtype).mean(dim=(2, 3, 4))
            offset = self.dense(mean).reshape(-1, 3, 4) * self.scale
        affine: Tensor = offset + torch.eye(3, 4, dtype=offset.dtype, device=offset.device)
        return affine


class SegmentationHead(nn.Module):
    """Logits of the classes of the moving image."""

    def __init__(self, channels: int, classes: int, negative_slope: float) -> None:
        super().__init__()
        self.layers = _three_convolutions(channels, classes, negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, classes, I, J, K)."""
        logits: Tensor = self.layers(x)
        return logits
