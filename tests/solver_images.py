"""Two images of round structures for the solver."""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.solver import Level, SolverImage, SolverSettings

SHAPE = (64, 80, 48)  # mm; not a cube
CENTRES = np.array(
    [[-14, -12, 4], [14, -12, 4], [-12, 16, -6], [12, 16, -6], [0, 0, 10], [0, -22, -8], [0, 6, -2], [9, 2, 3]]
)
GROUPS = torch.arange(len(CENTRES) + 1)
QUICK = SolverSettings((Level(8, 6), Level(4, 12), Level(2, 6)), residual=Level(1, 3))


def blobs(matrix: np.ndarray) -> SolverImage:
    """Eight round structures (standard deviation 4 mm) seen through an affine: value(x) = blob(matrix x), mm."""
    half = [n // 2 for n in SHAPE]

    def seen(shape: list[int], spacing: float) -> Tensor:
        middle = torch.tensor([(n - 1) / 2 for n in shape]).view(3, 1, 1, 1)
        x = (identity_coordinates(shape)[0] - middle) * spacing
        m = torch.tensor(matrix, dtype=torch.float32)
        y = (m[:3, :3] @ x.flatten(1) + m[:3, 3:]).view_as(x)
        return torch.stack(
            [torch.exp(-(y - torch.tensor(c).float().view(3, 1, 1, 1)).square().sum(0) / 32) for c in CENTRES]
        )

    some = seen(half, 2.0)
    probabilities = torch.cat([(1 - some.sum(0, keepdim=True)).clamp_min(0), some])
    image = (seen(list(SHAPE), 1.0) * torch.linspace(0.3, 1, len(CENTRES)).view(-1, 1, 1, 1)).sum(0)
    return SolverImage(probabilities, image[None, None], GROUPS)


def affine(turn: float, scale: float, shift: float) -> np.ndarray:
    log = np.array([[0, -turn, 0, shift], [turn, 0, 0, 0], [0, 0, scale, -shift / 2], [0, 0, 0, 0]])
    return np.asarray(linalg.expm(log))
