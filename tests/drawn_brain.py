"""A T1-weighted brain drawn from ellipsoids, capsules and waves, in which the default model finds its structures.

Places and sizes are those of an adult brain in MNI millimetres, times ``SCALE``. No image of a person was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from uresnet.core.grid import Grid

SCALE = 0.7  # of an adult brain: a third of its volume, and of the time that a registration takes
Point = tuple[float, float, float]
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y, z; they broadcast to the shape of an image

BRIGHTNESS = {
    2: 100,  # cerebral white matter
    3: 66,  # cerebral cortex
    4: 18,  # lateral ventricle
    7: 97,  # cerebellar white matter
    8: 64,  # cerebellar cortex
    10: 84,  # thalamus
    11: 70,  # caudate
    12: 76,  # putamen
    14: 22,  # third ventricle
    15: 22,  # fourth ventricle
    16: 93,  # brain-stem
    17: 65,  # hippocampus
    24: 24,  # CSF
}
RIGHT = {2: 41, 3: 42, 4: 43, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 17: 53}  # left id → right id


@dataclass(frozen=True)
class Ellipsoid:
    """An axis-aligned ellipsoid, mm."""

    centre: Point
    radii: Point

    def holds(self, at: Coordinates) -> np.ndarray:
        return self.radius(at) < 1

    def radius(self, at: Coordinates) -> np.ndarray:
        """1 on the surface."""
        return np.sqrt(sum(((x - c) / r) ** 2 for x, c, r in zip(at, self.centre, self.radii, strict=True)))


@dataclass(frozen=True)
class Capsule:
    """What lies within a radius of the line from ``start`` to ``end``, mm; the radius changes linearly along it."""

    start: Point
    end: Point
    radii: tuple[float, float]

    def holds(self, at: Coordinates) -> np.ndarray:
        a, along = np.array(self.start), np.array(self.end) - self.start
        part = sum((x - a[i]) * along[i] for i, x in enumerate(at)) / (along @ along)
        part = np.clip(part, 0, 1)
        squared = sum((x - a[i] - part * along[i]) ** 2 for i, x in enumerate(at))
        return np.asarray(squared < (self.radii[0] + (self.radii[1] - self.radii[0]) * part) ** 2)


CEREBRUM = Ellipsoid((0, -17, 16), (68, 86, 62))
CEREBELLUM = Ellipsoid((0, -62, -34), (53, 31, 24))
SIDED: dict[int, Sequence[Ellipsoid | Capsule]] = {  # right side; each covers those before it
    3: (Ellipsoid((39.5, 1, 2), (6, 24, 17)),),  # the insula, and the fissure beside it
    24: (Ellipsoid((58, -4, 2), (18, 28, 3.2)), Ellipsoid((42, -2, 2), (3, 18, 12))),
    11: (Capsule((14, 16, 6), (14, 6, 13), (8, 6.5)), Capsule((14, 6, 13), (19, -14, 23), (6, 3.5))),
    12: (Ellipsoid((27, 3, 2), (6, 16, 11)),),
    10: (Ellipsoid((11, -18, 8), (9, 14, 9)),),
    17: (Capsule((26, -12, -19), (25, -36, -3), (6.5, 4.5)),),
    4: (
        Capsule((11, 28, 4), (12, 8, 17), (4.5, 5.5)),
        Capsule((12, 8, 17), (13, -22, 25), (5.5, 5.5)),
        Capsule((13, -22, 25), (24, -42, 12), (5.5, 7)),
        Capsule((24, -42, 12), (27, -62, 10), (6, 3)),
    ),
}
STEM = (Capsule((0, -22, -10), (0, -27, -28), (14, 14.5)), Capsule((0, -27, -28), (0, -40, -62), (14, 8)))
THIRD_VENTRICLE = Ellipsoid((0, -16, 3), (2.6, 15, 12))
FOURTH_VENTRICLE = Ellipsoid((0, -46, -34), (7, 5, 9))
CORPUS_CALLOSUM = Ellipsoid((0, -14, 8), (99, 45, 24))  # where the hemispheres are joined


def draw_labels(grid: Grid) -> np.ndarray:
    """FreeSurfer ids on a grid whose axes are right, anterior and superior, int16; 24 around and in the folds."""
    step, origin = np.diag(grid.voxel_to_world)[:3], grid.voxel_to_world[:3, 3]
    axes = [((origin[i] + step[i] * np.arange(n)) / SCALE).astype(np.float32) for i, n in enumerate(grid.shape)]
    x, y, z = np.ix_(*axes)
    at, right = (x, y, z), (np.abs(x), y, z)
    labels = _cerebrum(at)
    for value, shapes in SIDED.items():
        _paint(labels, shapes, right, value, where=labels > 0)
    radius = CEREBELLUM.radius(at)
    folds = np.sin(np.sqrt(x**2 + (y + 45) ** 2 + (z + 32) ** 2) / 2.2)
    labels[radius < 1] = 8
    labels[radius < 0.55 + 0.12 * folds] = 7
    _paint(labels, STEM, at, 16, where=(z < -6) & (labels != 10))
    _paint(labels, (FOURTH_VENTRICLE,), at, 15)
    _paint(labels, (THIRD_VENTRICLE,), at, 14)
    table = np.arange(256, dtype=np.int16)
    table[list(RIGHT)] = list(RIGHT.values())
    return np.where(x > 0, table[labels], labels)


def _paint(
    labels: np.ndarray,
    shapes: Sequence[Ellipsoid | Capsule],
    at: Coordinates,
    value: int,
    where: np.ndarray | bool = True,
) -> None:
    for shape in shapes:
        labels[shape.holds(at) & where] = value


def _cerebrum(at: Coordinates) -> np.ndarray:
    """White matter, cortex and CSF of both hemispheres, all with left ids."""
    x, y, z = at
    right = np.abs(x)
    depth = (1 - CEREBRUM.radius(at)) * 70
    wave = np.sin(right / 5.5 + 1.7 * np.sin(y / 13) + 0.5) * np.sin(y / 6.5 + 1.3 * np.sin(z / 11) + 0.3 * np.sign(x))
    wave = wave + 0.6 * np.sin(z / 5.5 + 1.2 * np.sin(right / 10) + y / 17)
    fold = np.exp(-((wave / 0.28) ** 2))  # 1 in the middle of a sulcus
    tent = (y < -25) & (z < -8 - 0.25 * (y + 60))  # over the cerebellum
    inside = (depth > 0) & (z > -36) & ~tent
    labels = np.where(inside, 24, 0).astype(np.int16)
    labels[inside & (depth > 1 + 10 * fold * (fold > 0.55))] = 3
    base = (z < -31) | ((y < -25) & (z < -3 - 0.25 * (y + 60)))
    between = CORPUS_CALLOSUM.radius(at) > 1
    labels[inside & (depth > 5.5 + 16 * fold) & ~base & ~((right < 4.5) & between)] = 2
    labels[inside & (right < 1.2) & between] = 24
    return labels


def brightness(labels: np.ndarray) -> np.ndarray:
    """The T1-weighted image of a label map, float32, 0 outside."""
    table = np.zeros(256, dtype=np.float32)
    for value, bright in BRIGHTNESS.items():
        table[[value, RIGHT.get(value, value)]] = bright
    return np.asarray(ndimage.gaussian_filter(table[labels], 0.7))
