"""Made-up heads without images, so small that a CPU needs no time for them."""

from __future__ import annotations

import numpy as np
import torch

from uresnet.config import HeadConfig
from uresnet.training.data.dataset import Scan
from uresnet.training.data.store import DeviceStore

SIDE = 64
RADIUS = 18
"""Of the brain, in voxels of 1 mm."""

PLAIN = HeadConfig(dark_bone=0.0, abnormal=0.0, stripped=0.0, defaced=0.0, slices=0.0, cut=0.0)
"""Nothing but the contrast is changed."""


def heads(count: int, side: int = SIDE, radius: float = RADIUS) -> DeviceStore:
    """Balls: ventricles, white matter, cortex, then bone (511) and soft tissue (507) around; images are brain masks."""
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1) - (side - 1) / 2
    away = np.sqrt((grid**2).sum(-1)) / radius
    ids = np.select([away < 0.3, away < 0.75, away < 1, away < 1.2, away < 1.5], [4, 2, 3, 211, 207], 0)
    volumes = [torch.from_numpy(volume.astype(np.uint8)) for volume in (255 * (away < 1), ids)]
    images, labels = (volume.expand(count, 1, side, side, side).clone() for volume in volumes)
    return DeviceStore(tuple(Scan(str(n), str(n), "train") for n in range(count)), images, labels, 1 / 255)
