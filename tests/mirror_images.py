"""Images and structures of brains that are their own mirror images, tilted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uresnet.core.labels import SCHEMES, LabelScheme

SHAPE = (64, 56, 48)
SCHEME: LabelScheme = SCHEMES["freesurfer32"]
PAIRS = ((2, 41, (14, 0, 0)), (10, 49, (8, -6, 4)), (11, 50, (9, 10, 6)), (17, 53, (12, -2, -10)))
MIDDLE = ((14, (0, 3, 3)), (16, (0, -8, -12)))


def tilted(angle: float, shift: float) -> np.ndarray:
    """(4, 4), mm about the middle: from the image to a brain whose middle plane is x = 0."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(4)
    matrix[:2, :2] = [[c, s], [-s, c]]
    matrix[0, 3] = shift
    return matrix


def positions(shape: tuple[int, ...], spacing: float) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * spacing for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def in_brain(matrix: np.ndarray, shape: tuple[int, ...], spacing: float) -> np.ndarray:
    turned = np.einsum("cd,dijk->cijk", matrix[:3, :3], positions(shape, spacing))
    where: np.ndarray = turned + matrix[:3, 3].reshape(3, 1, 1, 1)
    return where


def image(matrix: np.ndarray) -> Tensor:
    x, y, z = in_brain(matrix, SHAPE, 1.0)
    inside = (x / 26) ** 2 + (y / 24) ** 2 + (z / 20) ** 2 < 1
    values = 0.5 + 0.2 * np.cos(np.abs(x) / 5) * np.sin(y / 6) + 0.1 * np.cos(z / 5)
    return torch.from_numpy(np.where(inside, values, 0).astype(np.float32))[None, None]


def probabilities(matrix: np.ndarray) -> Tensor:
    """Blobs on both sides, and in the middle."""
    shape = tuple(n // 2 for n in SHAPE)
    where = in_brain(matrix, shape, 2.0)
    out = np.zeros((SCHEME.number_of_classes, *shape), dtype=np.float32)

    def add(id_: int, centre: tuple[float, ...]) -> None:
        away = where - np.array(centre, dtype=float).reshape(3, 1, 1, 1)
        out[1 + SCHEME.ids.index(id_)] = np.exp(-(away**2).sum(0) / (2 * 4.0**2))

    for left, right, (x, y, z) in PAIRS:
        add(left, (-x, y, z))
        add(right, (x, y, z))
    for middle, centre in MIDDLE:
        add(middle, centre)
    out[0] = 1 - out[1:].sum(0).clip(max=1)
    return torch.from_numpy(out)


def ball(centre: tuple[int, int, int], radius: float) -> Tensor:
    away = np.indices(SHAPE) - np.array(centre).reshape(3, 1, 1, 1)
    return torch.from_numpy((away**2).sum(0) < radius**2)


class Shown(torch.nn.Module):
    """A network that keeps what it is shown, and finds the blobs of a healthy brain in it."""

    def __init__(self, probabilities: torch.Tensor) -> None:
        super().__init__()
        self.probabilities, self.images = torch.nn.Parameter(probabilities, requires_grad=False), list[torch.Tensor]()

    def forward(self, image: torch.Tensor, shifted_pass: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        self.images.append(image)
        classes = self.probabilities.argmax(0).to(torch.uint8)
        for axis in range(3):
            classes = classes.repeat_interleave(2, axis)
        return classes, self.probabilities
