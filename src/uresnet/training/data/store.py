"""A training set on the device that trains: all its scans in two tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.errors import UserError
from uresnet.training.data.dataset import PackedDataset, Scan, Volume


@dataclass(frozen=True)
class DeviceStore:
    """Scans on a device: uint8 images (N, 1, I, J, K) and labels on a grid ``downsampling`` times as fine.

    ``t1s`` are the T1-weighted images of the same brains where the scans have another contrast, None where they are T1.
    """

    scans: tuple[Scan, ...]
    images: Tensor
    labels: Tensor
    image_scale: float
    downsampling: int = 1
    t1s: Tensor | None = None

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, 1, I, J, K) float32 in [0, 1], labels uint8 FreeSurfer ids, of the scan's own voxels."""
        chosen = list(indices)
        return self.images[chosen].float() * self.image_scale, self.labels[chosen]

    def downsampled(self, factor: int) -> DeviceStore:
        """Images averaged over blocks of ``factor`` voxels; labels stay as fine as they are.

        The most frequent label of a block is not accurate enough: upsampled, its Dice with the original labels is 0.93
        in white matter; that of the shares of every class is 0.96.
        """
        if factor == 1:
            return self
        images = torch.cat([_block_mean(image[None], factor) for image in self.images])
        return DeviceStore(self.scans, images, self.labels, self.image_scale, self.downsampling * factor)


def load_store(dataset: PackedDataset, splits: Sequence[str], device: torch.device | str) -> DeviceStore:
    """Read the T1-weighted scans of ``splits`` to a device (12 MB a scan on the paper's grid).

    Raises :class:`UserError` for a split without any.
    """
    scans = tuple(scan for split in splits for scan in dataset.of_split(split) if not scan.has_t1)
    if not scans:
        raise UserError(f"{dataset.folder} holds no T1-weighted scan of the split '{', '.join(splits)}'; prepare some.")
    return _loaded(dataset, scans, device)


def load_other_contrasts(
    dataset: PackedDataset, splits: Sequence[str], device: torch.device | str
) -> DeviceStore | None:
    """Read the scans of ``splits`` that have another contrast, with the T1 of the same brain; None if there is none."""
    scans = tuple(scan for scan in dataset.scans if scan.has_t1 and scan.split in splits)
    if not scans:
        return None
    t1s = _stacked([dataset.t1(scan) for scan in scans])
    return replace(_loaded(dataset, scans, device), t1s=t1s.to(device))


def _loaded(dataset: PackedDataset, scans: tuple[Scan, ...], device: torch.device | str) -> DeviceStore:
    images, labels = (_stacked([read(scan) for scan in scans]) for read in (dataset.image, dataset.labels))
    return DeviceStore(scans, images.to(device), labels.to(device), dataset.image_scale)


def _stacked(volumes: Sequence[Volume]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(volume)) for volume in volumes])[:, None]


def _block_mean(image: Tensor, factor: int) -> Tensor:
    return F.avg_pool3d(image.float(), factor).round().to(torch.uint8)
