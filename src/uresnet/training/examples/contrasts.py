"""The brightness of tissues in images of any contrast: families with the right order, and grey values of no order.

Grey values are tables (256,), one for each FreeSurfer id, in [0, 1] with 0 for what is no brain. An image is painted
with a table, or a T1-weighted image is remapped to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.coordinates import finer_map
from uresnet.core.sampling import sample
from uresnet.training.data.classes import mirror_table
from uresnet.training.examples.draws import between, chance, fraction, smooth_field
from uresnet.training.examples.intensities import blurred

Family = Literal["T1", "T2", "FLAIR", "PD", "any"]
FAMILIES: tuple[Family, ...] = ("T1", "T2", "FLAIR", "PD")
"""The contrasts whose order of tissues is known. In images of the family "any" every structure may have any value."""

WHITE = (2, 41, 7, 46, 85, 77, 78, 79)
GREY = (3, 42, 8, 47, 17, 53, 18, 54, 26, 58, 80, 81, 82)
FLUID = (4, 43, 5, 44, 14, 15, 24, 72, 31, 63, 30, 62)
BETWEEN = {10: 0.4, 11: 0.1, 12: 0.2, 13: 0.7, 16: 0.8, 28: 0.7}
"""Structures as bright as a mixture: the share of white matter in it, the rest is grey matter. The right ones follow
the left."""

DARKEST = 1e-3
"""What a voxel of the brain has at least: 0 is background."""

_FEWEST = 50  # voxels of a tissue whose mean is believed


@dataclass(frozen=True)
class Tissues:
    """The brightness of white matter, grey matter and fluid, in [0, 1]."""

    white: float
    grey: float
    fluid: float


def draw_tissues(family: Family, generator: torch.Generator) -> Tissues:
    """Brightness in the order of the family: T1 fluid < grey < white; T2 white < grey < fluid; FLAIR fluid < white <
    grey; PD white < grey, and fluid above white. Neighbours differ by 0.04 and more; "any" has no order."""
    a, b, c = (fraction(generator) for _ in range(3))
    if family == "T1":
        fluid, white = 0.03 + 0.22 * a, 0.75 + 0.25 * b
        return Tissues(white, fluid + (0.4 + 0.38 * c) * (white - fluid), fluid)
    if family == "T2":
        white = 0.15 + 0.25 * a
        return Tissues(white, white + 0.06 + 0.16 * b, 0.75 + 0.25 * c)
    if family == "FLAIR":
        white = 0.40 + 0.25 * a
        return Tissues(white, white + 0.04 + 0.18 * b, 0.02 + 0.2 * c)
    if family == "PD":
        white = 0.45 + 0.2 * a
        return Tissues(white, white + 0.06 + 0.2 * b, white + 0.04 + 0.31 * c)
    return Tissues(*(0.05 + 0.95 * value for value in (a, b, c)))


def grey_table(tissues: Tissues, spread: float, generator: torch.Generator) -> Tensor:
    """(256,): every structure has the brightness of its tissue, and differs from it by up to ``spread`` times the
    smallest step between tissues, which keep their order below 0.5. Left and right are alike."""
    device = generator.device
    table = torch.zeros(256, device=device)
    for ids, value in ((WHITE, tissues.white), (GREY, tissues.grey), (FLUID, tissues.fluid)):
        table[list(ids)] = value
    for structure, share in BETWEEN.items():
        table[structure] = tissues.grey + share * (tissues.white - tissues.grey)
    table = _alike_on_both_sides(table)
    dark, middle, bright = sorted((tissues.white, tissues.grey, tissues.fluid))
    reach = spread * min(middle - dark, bright - middle)
    moved = table + reach * (2 * torch.rand(256, generator=generator, device=device) - 1)
    return torch.where(table > 0, _alike_on_both_sides(moved).clamp(DARKEST, 1), table)


def any_table(generator: torch.Generator) -> Tensor:
    """(256,): any brightness for any structure, in a third of the tables nearly the same in all of a tissue."""
    if chance(1 / 3, generator):
        return grey_table(draw_tissues("any", generator), 0.3, generator)
    drawn = _alike_on_both_sides(0.02 + 0.98 * torch.rand(256, generator=generator, device=generator.device))
    drawn[0] = 0
    return drawn


def _alike_on_both_sides(table: Tensor) -> Tensor:
    """The left structure's value for the right one too."""
    ids = torch.arange(256, device=table.device)
    return table[torch.minimum(ids, mirror_table(table.device).long())]


# -- images ------------------------------------------------------------------------------------------------------------


def painted(volume: Tensor, coordinates: Tensor, table: Tensor) -> Tensor:
    """An image (1, 1, i, j, k): the values that ``table`` has for the ids of ``volume`` (1, 1, I, J, K), read at
    ``coordinates`` (1, 3, i, j, k) in eight points of each voxel, whose mean is the voxel's: partial volumes."""
    # A voxel x of the block is at 2 x + 1/2 among voxels half as wide, and so is the voxel that it reads.
    fine = (finer_map(coordinates, 2) - 0.5) / 2
    labels = sample(volume, fine, mode="nearest").to(torch.int32)
    return F.avg_pool3d(table[labels], 2)


def grained(image: Tensor, labels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each structure of ``labels`` gets a grain of its own, of up to ``strength``, fine and coarse."""
    device = generator.device
    grain = strength * torch.rand(256, generator=generator, device=device) ** 2
    grain[0] = 0
    spacing = int(between(3, 9, generator))
    noise = 0.6 * smooth_field(1, labels.shape[2:], spacing, generator)[None]
    noise = noise + torch.randn(labels.shape, generator=generator, device=device)
    return torch.where(labels > 0, (image + grain[labels.int()] * noise).clamp_min(DARKEST), image)


def mean_tissues(image: Tensor, labels: Tensor, otherwise: Tensor) -> Tissues:
    """The mean brightness of the tissues in an image; those of the table ``otherwise`` where there is hardly any."""

    def mean(ids: tuple[int, ...]) -> float:
        inside = torch.isin(labels, torch.tensor(ids, dtype=labels.dtype, device=labels.device)).to(image.dtype)
        count = float(inside.sum())
        return float((image * inside).sum()) / count if count >= _FEWEST else float(otherwise[ids[0]])

    return Tissues(mean((2, 41)), mean((3, 42)), mean((4, 43)))


def remapped(image: Tensor, tissues: Tissues, wanted: Tissues, generator: torch.Generator) -> Tensor:
    """A T1-weighted image in another contrast: a curve of lines through what its ``tissues`` become, ``wanted``.

    It is the same for all voxels, so the detail within tissues stays; where fluid meets white matter, voxels of both
    become like grey matter, which in a real image they would not in every contrast.
    """
    points = [(0.0, wanted.fluid * fraction(generator))]
    for name in ("white", "grey", "fluid"):
        points.append((getattr(tissues, name), getattr(wanted, name)))
    brightest = max(points)
    points.append((max(1.0, brightest[0] + 0.05), brightest[1] * between(0.9, 1.25, generator)))
    return torch.where(image > 0, along_lines(image, sorted(points)).clamp_min(DARKEST), image)


def bent(image: Tensor, generator: torch.Generator) -> Tensor:
    """An image through a random curve of [0, 1], which rises, falls (each in a fifth of the cases) or is bent."""
    heights = torch.rand(6, generator=generator, device=generator.device)
    if chance(0.4, generator):
        heights = heights.sort(descending=chance(0.5, generator))[0]
    points = [(n / 5, height) for n, height in enumerate(heights.tolist())]
    return torch.where(image > 0, along_lines(image, points).clamp_min(DARKEST), image)


def along_lines(image: Tensor, points: list[tuple[float, float]]) -> Tensor:
    """The piecewise linear curve through ``points`` (x, y) of rising x, level beyond their ends."""
    curve = torch.full_like(image, points[0][1])
    for (start, low), (end, high) in pairwise(points):
        curve = curve + (high - low) * ((image - start) / max(end - start, 1e-4)).clamp(0, 1)
    return curve


def mixed(image: Tensor, other: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """``image`` with a ``share`` of another one, which is blurred a little."""
    return (1 - share) * image + share * blurred(other, between(0.4, 1.0, generator))
