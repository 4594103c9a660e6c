"""Abnormal tissue to paint into training images: lesions of the white matter, strokes, masses with their effect.

Shapes are shares of voxels, (1, 1, I, J, K) in [0, 1], with soft edges; a voxel of more than one half gets the id:
77 in lesions of the white matter and in oedema, 25 or 57, by its side, in masses and strokes. Shapes and brightness
are random inventions, but for the strokes, whose shapes are those of masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.labels import FREESURFER, MASSES, mirrored_id
from uresnet.core.sampling import sample
from uresnet.training.examples.contrasts import Family, Tissues
from uresnet.training.examples.draws import between, chance, fraction, smooth_field, uniform
from uresnet.training.examples.geometry import linear_map
from uresnet.training.examples.intensities import blurred

LESION = 77
WHITE_MATTER = (2, 41)
VENTRICLES = (4, 43, 5, 44)
_FLUID = (*VENTRICLES, 14, 15, 24, 72)
_LEFT = tuple(i for i in FREESURFER if mirrored_id(i) > i)
_RIGHT = tuple(mirrored_id(i) for i in _LEFT)

Kind = Literal["lesion", "cavity", "core", "rim", "infiltration"]
"""``lesion`` is also what oedema looks like; ``cavity`` what a stroke leaves; ``infiltration`` a tumour with neither
core nor rim, as most gliomas of low grade."""


def brightness(kind: Kind, family: Family, tissues: Tissues, amount: float, generator: torch.Generator) -> float:
    """How bright abnormal tissue is, the more abnormal the larger ``amount`` (0 … 1).

    Lesions are darker than white matter in T1, brighter than grey matter in T2, FLAIR and PD. A cavity lies between a
    lesion and fluid. The core of a mass is dark in T1, in FLAIR it is like fluid or like a lesion; its rim is as bright
    as grey matter in T1 and brighter elsewhere. A tumour that infiltrates lies between grey matter and fluid in T1, and
    looks like a lesion elsewhere. In the family "any" it is drawn.
    """
    if family == "any":
        return between(0.02, 1.1, generator)
    white, grey, fluid = tissues.white, tissues.grey, tissues.fluid
    if family == "T1":
        lesion = white + (0.4 + 0.9 * amount) * (grey - white)
        core = fluid + (0.9 - 0.7 * amount) * (grey - fluid)
        infiltration = fluid + (0.95 - 0.65 * amount) * (grey - fluid)
    elif family == "T2":
        lesion = core = infiltration = grey + (0.2 + 0.7 * amount) * (fluid - grey)
    else:
        lesion = infiltration = grey + (0.15 + 0.6 * amount) * max(1 - grey, 0.15)
        core = fluid + (1 - amount) * (grey - fluid) if family == "FLAIR" and amount > 0.6 else lesion
    rim = grey if family == "T1" else grey + 0.5 * (lesion - grey)
    cavity = lesion + amount * (fluid - lesion)
    return {"lesion": lesion, "core": core, "rim": rim, "cavity": cavity, "infiltration": infiltration}[kind]


def one_of(labels: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Where ``labels`` has one of these ids, bool."""
    return torch.isin(labels, torch.tensor(ids, dtype=labels.dtype, device=labels.device))


def mass_ids(labels: Tensor) -> Tensor:
    """25 or 57 for every voxel, uint8: the side that most of the sided structures around it are of, left in a tie."""
    # A wide blur, so that the middle of a large mass has a side too.
    sides = F.avg_pool3d(one_of(labels, _LEFT).float() - one_of(labels, _RIGHT).float(), 4, ceil_mode=True)
    near = F.interpolate(blurred(sides, 4.0), size=labels.shape[2:], mode="trilinear")
    here = one_of(labels, _LEFT).float() - one_of(labels, _RIGHT).float()
    return torch.where(torch.where(here == 0, near, here) < 0, MASSES[1], MASSES[0]).to(torch.uint8)


# -- shapes ------------------------------------------------------------------------------------------------------------


def white_matter_lesions(labels: Tensor, portion: float, generator: torch.Generator) -> Tensor:
    """Lesions that are a ``portion`` of the white matter of ``labels`` (1, 1, I, J, K): a random field above a level,
    in most cases raised round the ventricles, with an edge of random softness."""
    white = one_of(labels, WHITE_MATTER)
    inside = white[0, 0].nonzero()
    count = round(portion * len(inside))
    if not count:
        return torch.zeros(labels.shape, device=labels.device)
    field = smooth_field(1, labels.shape[2:], int(between(3, 12, generator)), generator)[None]
    if chance(0.75, generator):
        near = F.avg_pool3d(one_of(labels, VENTRICLES).float(), 4, ceil_mode=True)
        near = F.interpolate(blurred(near, between(1.0, 2.5, generator)), size=labels.shape[2:], mode="trilinear")
        field = field + between(0.5, 4.0, generator) * (near / near.max().clamp_min(1e-6)).sqrt()
    values = field[white].sort(descending=True)[0]
    following = values[count] if count < len(values) else values[-1] - 1
    level = (values[count - 1] + following) / 2
    share: Tensor = ((field - level) * between(2.0, 8.0, generator)).sigmoid() * white
    return share


def stroke(labels: Tensor, brain: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """The shape of a ``mask`` (i, j, k), turned, mirrored and scaled at random, round a random voxel of the ``brain``,
    bool, that is not labelled as fluid."""
    tissue = brain & ~one_of(labels, _FLUID)
    if not tissue.any():
        return torch.zeros(labels.shape, device=labels.device)
    centre = _random_voxel(tissue, generator)
    middle = torch.tensor([(n - 1) / 2 for n in mask.shape], device=labels.device).view(1, 3, 1, 1, 1)
    angles = uniform((1, 3), generator) * math.pi
    scales = torch.exp(0.3 * uniform((1, 3), generator))
    matrix = linear_map(angles, scales, torch.zeros_like(scales))[0]
    if chance(0.5, generator):
        matrix = matrix * matrix.new_tensor([-1.0, 1.0, 1.0])
    away = identity_coordinates(labels.shape[2:], labels.device) - centre
    share = sample(mask[None, None].to(labels.device).float(), torch.einsum("cd,bdijk->bcijk", matrix, away) + middle)
    inside: Tensor = share * tissue
    return inside


@dataclass(frozen=True)
class Mass:
    """A mass round ``centre`` (1, 3, 1, 1, 1), voxels of the block, with a ``radius`` in voxels.

    Its effect: what lay at the distance (1 - push) · radius now lies at ``radius``, and what is farther is moved
    outwards by less, down to a third every ``reach`` radii. Distances keep their order for ``push`` below 1, so that
    nothing folds.
    """

    centre: Tensor
    radius: float
    push: float
    reach: float = 0.8

    def distance_before(self, distance: Tensor) -> Tensor:
        """The distance from the centre, in voxels, at which lay what is now at ``distance``."""
        fade = torch.exp(-((distance / self.radius - 1).clamp_min(0)) / self.reach)
        return distance - self.push * fade * distance.clamp_max(self.radius)

    def before(self, x: Tensor) -> Tensor:
        """Where lay what is now at the voxels ``x`` (1, 3, I, J, K): the pull-back of the mass effect."""
        away = x - self.centre
        distance = away.norm(dim=1, keepdim=True).clamp_min(1e-6)
        origin: Tensor = self.centre + away * (self.distance_before(distance) / distance)
        return origin


def draw_mass(labels: Tensor, radii: tuple[float, float], generator: torch.Generator) -> Mass | None:
    """A mass in a random voxel of the brain, which moves its surroundings in six of ten cases; None without a brain."""
    inside = labels > 0
    if not inside.any():
        return None
    centre = _random_voxel(inside, generator)
    push = between(0.1, 0.6, generator) if chance(0.6, generator) else 0.0
    return Mass(centre, between(*radii, generator), push)


@dataclass(frozen=True)
class MassShape:
    """Shares of voxels, (1, 1, I, J, K): the whole mass, its rim (a part of it), and the oedema around it."""

    whole: Tensor
    rim: Tensor
    oedema: Tensor


def mass_shape(mass: Mass, labels: Tensor, brain: Tensor, generator: torch.Generator) -> MassShape:
    """The parts of a mass with an uneven surface, inside the ``brain``, bool; its oedema lies in white matter."""
    shape = labels.shape[2:]
    away = (identity_coordinates(shape, labels.device) - mass.centre).norm(dim=1, keepdim=True) / mass.radius
    spacing = max(3, int(mass.radius * between(0.4, 1.2, generator)))
    away = away + between(0.03, 0.2, generator) * smooth_field(1, shape, spacing, generator)[None]
    sharp = mass.radius * between(0.7, 2.0, generator)
    whole = ((1 - away) * sharp).sigmoid() * brain
    rim = ((away - 1 + between(0.0, 0.3, generator)) * sharp).sigmoid() * whole
    swelling = between(1.0, 1.9, generator)
    oedema = ((swelling - away) * sharp / 2).sigmoid() * one_of(labels, WHITE_MATTER) * (1 - whole)
    return MassShape(whole, rim, oedema)


def infiltration(mass: Mass, labels: Tensor, brain: Tensor, generator: torch.Generator) -> Tensor:
    """Shares of voxels, (1, 1, I, J, K), of a tumour without core and rim: a longish, uneven body with a soft edge, in
    the ``brain``, bool, but not in the ventricles. In half of the cases it spares the fluid on the brain's surface."""
    shape = labels.shape[2:]
    angles, scales = uniform((1, 3), generator) * math.pi, torch.exp(0.35 * uniform((1, 3), generator))
    matrix = linear_map(angles, scales, torch.zeros_like(scales))[0] / mass.radius
    away = torch.einsum("cd,bdijk->bcijk", matrix, identity_coordinates(shape, labels.device) - mass.centre)
    spacing = max(3, int(mass.radius * between(0.4, 1.2, generator)))
    uneven = between(0.1, 0.4, generator) * smooth_field(1, shape, spacing, generator)[None]
    sharp = mass.radius * between(0.3, 1.2, generator)
    body = ((1 - away.norm(dim=1, keepdim=True) - uneven) * sharp).sigmoid()
    tissue = brain & ~one_of(labels, VENTRICLES)
    if chance(0.5, generator):
        tissue = tissue & (labels > 0) & ~one_of(labels, _FLUID)
    share: Tensor = body * tissue
    return share


def blended(image: Tensor, share: Tensor, value: float, grain: float, generator: torch.Generator) -> Tensor:
    """``image`` with ``value`` in a ``share`` of each voxel, unevenly by up to ``grain``."""
    texture = smooth_field(1, image.shape[2:], int(between(3, 10, generator)), generator)[None]
    texture = texture + torch.randn(image.shape, generator=generator, device=image.device)
    return image + share * ((value + 0.5 * grain * fraction(generator) * texture).clamp_min(1e-3) - image)


def _random_voxel(inside: Tensor, generator: torch.Generator) -> Tensor:
    """A voxel where ``inside`` (1, 1, I, J, K) holds, (1, 3, 1, 1, 1) float."""
    voxels = inside[0, 0].nonzero()
    number = int(torch.randint(len(voxels), (1,), generator=generator, device=generator.device))
    return voxels[number].float().view(1, 3, 1, 1, 1)
