"""From the FreeSurfer ids of a training set to the classes of a network."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from uresnet.core.labels import ABNORMAL, FREESURFER, LabelScheme, mirrored_id


def class_table(scheme: LabelScheme, device: torch.device | str = "cpu") -> Tensor:
    """(256,) int64: FreeSurfer id → class of ``scheme``."""
    ids = np.array([i if i in FREESURFER else 0 for i in range(256)])
    return torch.from_numpy(scheme.to_classes(ids).astype(np.int64)).to(device)


def abnormal_table(scheme: LabelScheme, device: torch.device | str = "cpu") -> Tensor | None:
    """(256,) int64: 1 for the FreeSurfer ids in the scheme's classes of abnormal tissue; None where it has none."""
    classes = torch.tensor(scheme.classes_of(ABNORMAL), device=device)
    return torch.isin(class_table(scheme, device), classes).long() if len(classes) else None


@functools.cache
def mirror_table(device: torch.device | str = "cpu") -> Tensor:
    """(256,) uint8: FreeSurfer id → the id of the same structure on the other side."""
    return torch.tensor(
        [mirrored_id(i) if i in FREESURFER else i for i in range(256)], dtype=torch.uint8, device=device
    )


def class_shares(labels: Tensor, table: Tensor, classes: int, block: int = 1) -> Tensor:
    """The share of every class in blocks of ``block`` voxels, background first.

    Labels (B, 1, I, J, K) uint8 ids → (B, classes, I / block, J / block, K / block) float32; with ``block`` 1 they are
    0 or 1.
    """
    found = table[labels.int()]
    steps = range(block)
    parts = [found[:, :, i::block, j::block, k::block] for i in steps for j in steps for k in steps]
    shares = torch.zeros(labels.shape[0], classes, *parts[0].shape[2:], device=labels.device)
    share = torch.full((1,) * 5, 1 / len(parts), device=labels.device)
    for part in parts:
        shares.scatter_add_(1, part, share.expand(part.shape))
    return shares
