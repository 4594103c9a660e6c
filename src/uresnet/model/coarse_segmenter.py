"""A segmenter that sees blocks of 2×2×2 voxels as one: an eighth of the work, with labels on all voxels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.ops import classify
from uresnet.model.segmenter import SMALLEST, Segmenter, blocks_to_channels, channels_to_blocks, near_brain

_SIDE = 2
_SLAB = 8  # coarse slices whose logits are held at once for all voxels


class CoarseSegmenter(Segmenter):
    """The network of a :class:`Segmenter`, on means over blocks of 2×2×2 voxels; its logits are interpolated linearly
    to the voxels of the image."""

    smallest = _SIDE * SMALLEST

    def forward(self, image: Tensor, shifted_pass: bool = False) -> tuple[Tensor, Tensor]:
        """As that of a :class:`Segmenter`. ``shifted_pass`` evaluates the image a second time, in blocks that begin one
        voxel later along every axis, and averages the logits of the voxels."""
        box = self._box(image)
        part = image[0, 0][box][None, None]
        logits = [self._coarse_logits(part)]
        if shifted_pass:
            logits.append(self._coarse_logits(F.pad(part, (-1, 1) * 3)))
        return self._placed(image, box, self._on_voxels(part, logits))

    def _coarse_logits(self, image: Tensor) -> Tensor:
        """image (1, 1, I, J, K) → logits (1, C, I/2, J/2, K/2)."""
        blocks = F.avg_pool3d(image, _SIDE)
        features = self.features(blocks)
        voxels = self.logits(features)[0].permute(2, 1, 0)  # classes, parts of a block, blocks
        return channels_to_blocks(voxels.reshape(1, -1, *features.shape[2:]))

    def _on_voxels(self, image: Tensor, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The most probable class of every voxel (I, J, K) and the probabilities (C, I/2, J/2, K/2), a slab at a time.

        The n-th of ``logits`` are those of blocks that begin n voxels later.
        """
        half = logits[0].shape[2:]
        near = near_brain(image)[0, 0]
        classes = torch.zeros(image.shape[2:], dtype=torch.uint8, device=image.device)
        probabilities = torch.zeros((self.config.classes, *half), device=image.device)
        probabilities[0] = 1
        for start in range(0, half[0], _SLAB):
            stop = min(start + _SLAB, half[0])
            slab = slice(start, stop)
            rows = near[slab].flatten().nonzero()[:, 0]
            if not len(rows):
                continue
            fine = torch.stack([_interpolated(part, start, stop, n) for n, part in enumerate(logits)]).mean(dim=0)
            parts = blocks_to_channels(fine).view(self.config.classes, _SIDE**3, -1)[:, :, rows]
            chosen, found = classify(parts.permute(2, 1, 0))
            of_slab = torch.zeros((near[slab].numel(), _SIDE**3), dtype=torch.uint8, device=image.device)
            of_slab[rows] = chosen
            placed = channels_to_blocks(of_slab.T.reshape(1, _SIDE**3, *near[slab].shape))[0, 0]
            classes[_SIDE * start : _SIDE * stop] = placed
            probabilities[:, slab].flatten(1)[:, rows] = found.T
        return classes, probabilities


def _interpolated(logits: Tensor, start: int, stop: int, shift: int) -> Tensor:
    """Logits (1, C, 2 (stop - start), J, K) of the voxels in the blocks from ``start`` to ``stop`` of the first axis,
    from those of blocks (1, C, I/2, J/2, K/2) that begin ``shift`` voxels later; beyond the outermost ones, theirs."""
    low, high = max(0, start - 1), min(logits.shape[2], stop + 1)
    fine = F.interpolate(logits[:, :, low:high], scale_factor=_SIDE, mode="trilinear", align_corners=False)
    first, size = _SIDE * (start - low), _SIDE * (stop - start)
    moved = F.pad(fine, (shift, 0) * 3, mode="replicate")[:, :, first : first + size]
    return moved[..., : fine.shape[3], : fine.shape[4]]
