"""Two images with known structures to one deformation: the flagship's solver, half-way between both.

The unknown is a stationary velocity v on a lattice of a **mid-space**, to which the moving image is brought by exp(v/2)
after half the affine, and the fixed one by exp(-v/2) after the other half. Exchanging the images turns v round, nothing
else: the map from B to A is the inverse of that from A to B by construction, which the paper says it lacks. What is
lowered is the paper's loss with both images in the middle (Eq. 4, 6): a Dice distance of the predicted structures and
one minus the local cross-correlation of the intensities. Forces come from the images as they lie in the mid-space, as
in symmetric log-demons (Vercauteren et al. 2008), and are smoothed; the velocity is smoothed in every step. In the end
a second, short velocity w is found at 1 mm between the images as v has brought them together; exp(v) becomes exp(v/2)
exp(w) exp(v/2), symmetric as before. There are no weights here and nothing is kept from one pair to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core import kernels
from uresnet.core.sampling import gather, identity_coordinates, sample, weighted_rows
from uresnet.model.losses import correlation_slopes
from uresnet.transform.affine import matrix_exponential, matrix_logarithm
from uresnet.transform.deformation import compose_displacements, integrate_velocity
from uresnet.transform.inversion import half_difference

_SMALLEST_MM3 = 100.0  # a structure smaller than this says nothing of where the head is
_MOMENTUM, _MEMORY = 0.8, 0.95  # of the force and of its square, as Adam's
_DOUBLINGS, _FINEST_DOUBLINGS = 4, 0  # of the exponentials that are kept
_OFF_VOXELS = 0.1  # a point whose displacements undo each other better needs no second correction
_FAINT = 1e-5  # product of two variances, below which a cube's correlation counts for little
_DARK = 0.02  # of intensities, and of probabilities of structures
_AROUND = 2  # voxels around the brain that move with it
_LONGEST_MM = 8  # decides into how many doublings half a velocity is cut: 2 at 2 mm, none at 8 mm
_QUIET = 0.6  # share of the mean force below which forces count as noise
_DIVERGENCE_STEP = 0.3  # below a third, above which the diffusion of the divergence overshoots


@dataclass(frozen=True)
class Level:
    """``iterations`` at voxels of ``spacing`` mm (a power of 2), each at most about ``rate`` voxels long;
    ``force`` and ``velocity`` are the standard deviations of the smoothing, voxels; the velocity's divergence is evened
    out ``divergence`` times more (:func:`_diffuse_divergence`)."""

    spacing: int
    iterations: int
    rate: float = 0.4
    force: float = 1.0
    velocity: float = 0.8
    divergence: int = 0


@dataclass(frozen=True)
class Effort:
    """The levels, coarse to fine, and the weights of the structures' Dice distance and of the intensities' correlation
    (in cubes of ``window`` voxels). ``finest``, if any, comes after a level of 2 mm, is at 1 mm and finds a velocity of
    its own. ``evened``: bends of single voxels, which cost invertibility more than they are worth, are evened out.
    ``twice``: the network looks at each image twice (:meth:`uresnet.model.segmenter.Segmenter.forward`). ``stored_mm``:
    voxels of the deformation in the end; the more it bends, the finer they have to be for its inverse."""

    levels: tuple[Level, ...]
    structures: float = 1.0
    correlation: float = 2.0
    window: int = 5
    finest: Level | None = None
    evened: bool = False
    twice: bool = False
    stored_mm: float = 0.7


SWIFT = Effort(
    (
        Level(8, 10, 0.5, velocity=0.75),
        Level(4, 12, 0.6, velocity=0.75, divergence=1),
        Level(2, 8, 0.9, velocity=0.75, divergence=2),
    ),
    finest=Level(1, 2, 1.0, velocity=0.8, divergence=4),
    evened=True,
)
"""What a registration does unless it is told otherwise."""

REFINED = Effort(
    SWIFT.levels,
    finest=Level(1, 8, 0.7, velocity=0.8, divergence=4),
    twice=True,
    stored_mm=0.6,
)
"""What ``--refine`` does: a second look, more steps where the images have their voxels, and no bend evened out."""


@dataclass(frozen=True, eq=False)
class Side:
    """One image: ``probabilities`` (C, I/2, J/2, K/2), background first, and ``intensities`` (1, 1, I, J, K) in [0, 1],
    of voxels of 1 mm. ``groups`` (C,) says which structure each class is compared as, 0 for none (both sides of the
    brain may share one: they never meet)."""

    probabilities: Tensor
    intensities: Tensor
    groups: Tensor

    @cached_property
    def features(self) -> Tensor:
        """(1, S + 1, I/2, J/2, K/2): probabilities of the structures, then the intensity."""
        shape = self.probabilities.shape[1:]
        merged = torch.zeros((int(self.groups.max()) + 2, *shape), device=self.probabilities.device)
        merged.index_add_(0, self.groups, self.probabilities)
        merged[-1] = F.avg_pool3d(self.intensities, 2)[0, 0]
        return merged[None, 1:]

    @cached_property
    def rows(self) -> _Rows:
        """The features of voxels of 2 mm."""
        return _as_rows(self.features)


def affine_between(moving: Tensor, fixed: Tensor) -> np.ndarray:
    """Logarithm (4, 4) of the affine from fixed to moving, mm about the middle of the grids, that brings the centroids
    of the predicted structures together.

    ``moving`` and ``fixed`` are probabilities (C, I, J, K) of voxels of 2 mm. Weighted least squares both ways, whose
    logarithms are averaged: exchanging the images changes the sign and nothing else. Raises ``ValueError`` when fewer
    than six structures are found in both.
    """
    (there, there_mm3), (here, here_mm3) = _centroids(moving), _centroids(fixed)
    both = np.minimum(there_mm3, here_mm3)
    # The larger a structure, the surer its centroid, but tissue that is everywhere must not outweigh all others.
    weights = np.where(both > _SMALLEST_MM3, np.minimum(np.sqrt(both), 100), 0)
    if (weights > 0).sum() < 6:
        raise ValueError("fewer than six structures are found in both images")
    one, other = _least_squares(here, there, weights), _least_squares(there, here, weights)
    return (matrix_logarithm(one) - matrix_logarithm(other)) / 2


def velocity_between(moving: Side, fixed: Side, affine_log: np.ndarray, effort: Effort) -> Tensor:
    """Velocity (1, 3, i, j, k), voxels of the last level's lattice: T is half the affine, exp(v), half the affine.

    ``affine_log`` is that of :func:`affine_between`.
    """
    spacing = effort.levels[0].spacing
    lattice = [n // spacing for n in moving.intensities.shape[2:]]
    velocity = torch.zeros((1, 3, *lattice), device=moving.intensities.device)
    for level in effort.levels:
        while spacing > level.spacing:
            velocity, spacing = 2 * _finer(velocity), spacing // 2
        velocity = _solve(_pooled(moving, spacing), _pooled(fixed, spacing), affine_log, velocity, level, effort)
    return velocity


def finest_velocity(
    moving: Side,
    fixed: Side,
    affine_log: np.ndarray,
    velocity: Tensor,
    effort: Effort,
    region: Tensor | None = None,
) -> Tensor:
    """A second velocity w (1, 3, I, J, K), mm, of voxels of 1 mm: T is half the affine, exp(v/2), exp(w), exp(v/2),
    half the affine.

    ``velocity`` is v, of voxels of 2 mm; ``region`` is :func:`brain_between`, where that is known. Both images are
    brought to the mid-space by v once; w is what is still to be done there, so short that half of it is its own
    exponential while it is looked for. Exchanging the images turns it round, as v. 0 where no brain is.
    """
    level, shape = effort.finest, moving.intensities.shape[2:]
    assert level is not None
    out = torch.zeros((1, 3, *shape), device=velocity.device)
    rows = moving.rows, fixed.rows
    middle = _centred(velocity.shape[2:], 1.0, velocity.device)
    halves = [matrix_exponential(sign * affine_log / 2) for sign in (1, -1)]
    coarse_halves = [_in_voxels(half, 2) for half in halves]
    region = brain_between(moving, fixed, affine_log, velocity, 2) if region is None else region
    moved = integrate_velocity(torch.cat([velocity, -velocity]) / 2, (_LONGEST_MM // 2).bit_length() - 1, region)
    box = _box(region)
    fine_box = (slice(None), slice(None), *(slice(2 * one.start, 2 * one.stop) for one in box))
    region = region[box]

    places = _places(rows[0], rows[1], coarse_halves, middle, moved)
    structures = [
        _Rows(gather(one.table, one.shape, place[(slice(None), *box)].flatten(1)), tuple(region.shape))
        for one, place in zip(rows, places, strict=True)
    ]
    start = _centred(shape, 1.0, velocity.device)[fine_box]
    moved = 2 * _finer(moved[(slice(None), slice(None), *box)])
    # Read twice, by v and then by w, an image would lose what the last level is for: the first time it is read sharply.
    images = [
        sample(_with_middles(side.intensities), 2 * _placed(half, start + moved[s : s + 1], shape)).clamp_(min=0)
        for s, (side, half) in enumerate(zip((moving, fixed), halves, strict=True))
    ]

    weights = effort.structures * _dice_weights(rows[0].table, rows[1].table)
    voxels, coarse_voxels = (identity_coordinates(one.shape[-3:], device=out.device) for one in (images[0], region))
    found = torch.zeros_like(start)
    descent = _Descent(level, found)
    for _ in range(level.iterations):
        half = found / 2
        places = [torch.add(voxels, half, alpha=s) for s in (1, -1)]
        seen = [sample(image, place, padding="border") for image, place in zip(images, places, strict=True)]
        half = F.avg_pool3d(half, 2) / 2
        places = [(coarse_voxels + s * half)[0] for s in (1, -1)]
        force, _ = _structure_force(structures[0], structures[1], places, weights, region)
        # A voxel of 2 mm is eight, each with half the slope.
        found = descent(found, _intensity_force(seen, effort).add_(_finer(force / 16)))
    out[fine_box] = found
    return out


def brain_between(moving: Side, fixed: Side, affine_log: np.ndarray, velocity: Tensor, spacing: int) -> Tensor:
    """(i, j, k) bool on the lattice of ``velocity``, voxels of ``spacing`` mm: where either image has its brain in the
    mid-space, or close by."""
    one, other = (_pooled(side, spacing) for side in (moving, fixed))
    halves = [_in_voxels(matrix_exponential(sign * affine_log / 2), spacing) for sign in (1, -1)]
    return _region(one, other, halves, _centred(velocity.shape[2:], 1.0, velocity.device), velocity)


def displacements(
    velocity: Tensor,
    spacing: int,
    shape: Sequence[int],
    where: Tensor | None = None,
    finest: Tensor | None = None,
    evened: bool = False,
    stored_mm: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """exp(v) - id and exp(-v) - id, each (3, I, J, K), mm, on the 1 mm lattice of ``shape``; with ``finest`` the second
    velocity w is between two halves of v, and ``evened`` takes the mean over 3×3×3 voxels of the result.

    Both are integrated where the velocities live. Read linearly between voxels they undo each other the better, the
    finer these are: on voxels of ``stored_mm`` instead of 1 mm the lattice has as many more, its middle in the same
    place. Each takes half of Newton's step towards what undoes the other, which keeps the two exchangeable: first on
    voxels of 1 mm, where that is cheap, and then on those. ``where`` (i, j, k) bool, on the velocity's lattice, is
    where that is done; everywhere by default.
    """
    part = 1.0 if finest is None else 0.5
    both = integrate_velocity(part * torch.cat([velocity, -velocity]), _DOUBLINGS, where) * spacing
    fine = both
    for _ in range(spacing.bit_length() - 1):
        fine = _finer(fine)
    # The creases of linear interpolation would be read as such by whoever reads the field between its voxels.
    fine = _evened(fine)
    inside = torch.ones(tuple(shape), dtype=torch.bool, device=fine.device)
    if where is not None:
        inside = F.interpolate(where[None, None].float(), size=list(shape))[0, 0] > 0
    if finest is not None:
        between = integrate_velocity(torch.cat([finest, -finest]), _FINEST_DOUBLINGS, inside)
        fine = compose_displacements(compose_displacements(fine, between, inside), fine, inside)
    if evened:
        fine = _evened(fine)
    _undo_each_other(fine, inside, 2)
    if stored_mm != 1:
        stored = [math.ceil(n / stored_mm) for n in shape]
        fine = _splined(fine, stored, stored_mm)
        inside = F.interpolate(inside[None, None].float(), size=stored)[0, 0] > 0
    _undo_each_other(fine.div_(stored_mm), inside, 3)
    fine.mul_(stored_mm)
    return fine[0], fine[1]


def _finer(x: Tensor) -> Tensor:
    """(B, C, I, J, K) on voxels half as large, linearly; beyond the outer centres the outer values continue."""
    for axis in (4, 3, 2):
        places = np.arange(2 * x.shape[axis])
        weights = np.where(places[:, None] % 2 == 0, (0.25, 0.75), (0.75, 0.25))
        x = weighted_rows(x, axis, (places - 1) // 2, weights)
    return x


def _with_middles(x: Tensor) -> Tensor:
    """(B, C, 2 I - 1, 2 J - 1, 2 K - 1): the voxels of ``x`` and the points half-way between, where the value is that
    of the polynomial through the six nearest voxels of the line."""
    voxel, between = (0, 0, 1, 0, 0, 0), np.array((3, -25, 150, 150, -25, 3)) / 256
    for axis in (4, 3, 2):
        places = np.arange(2 * x.shape[axis] - 1)
        x = weighted_rows(x, axis, places // 2 - 2, np.where(places[:, None] % 2 == 0, voxel, between))
    return x


def _evened(x: Tensor) -> Tensor:
    """Means over 3×3×3 voxels of (B, C, I, J, K); the edge continues."""
    return _averaged(x, np.full(3, 1 / 3))


def _splined(x: Tensor, shape: Sequence[int], step: float) -> Tensor:
    """The cubic B-spline with coefficients ``x`` (B, C, I, J, K), on a lattice of ``shape`` with voxels of ``step`` of
    its own and the same middle: smooth, and for that a little lower than ``x`` where it bends."""
    for axis, size in reversed(list(enumerate(shape, start=2))):
        n = x.shape[axis]
        position = (np.arange(size) - (size - 1) / 2) * step + (n - 1) / 2
        first = np.floor(position).astype(np.int64) - 1
        t = (position - np.floor(position))[:, None]
        weights = np.hstack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
        x = weighted_rows(x, axis, first, weights)
    return x


def _undo_each_other(both: Tensor, inside: Tensor, rounds: int) -> None:
    """Brings two displacements (2, 3, I, J, K), voxels, closer to undoing each other, in place, where ``inside``
    (I, J, K), and in all rounds but the first only where they are off. What each of the ``rounds`` does is said in
    :func:`uresnet.core.kernels.half_corrected`."""
    left = inside.clone()
    if kernels.is_plain(both) and min(both.shape[2:]) > 1:
        out, done = torch.empty_like(both).numpy(), torch.empty_like(left).numpy()
        fields, points, each = both.numpy(), left.numpy(), left[0].numel()
        for _ in range(rounds):
            arrays = fields, points, np.float32(_OFF_VOXELS), out, done
            kernels.in_parallel(kernels.half_corrected, len(points), *arrays, each=each)
            kernels.in_parallel(kernels.adopt, len(points), out, points, done, fields, each=each)
        return
    voxels = identity_coordinates(both.shape[2:], device=both.device)
    for _ in range(rounds):
        rest = both + sample(both.flip(0), voxels + both, padding="border")
        if min(both.shape[2:]) > 2:
            between = F.avg_pool3d(both, 2, stride=1)
            start = voxels[..., :-1, :-1, :-1] + 0.5
            between = between + sample(both.flip(0), start + between, padding="border")
            inner = rest[..., 1:-1, 1:-1, 1:-1]
            inner.add_(F.avg_pool3d(between, 2, stride=1)).div_(2)
        ahead = sample(both, voxels + rest, padding="border")
        both.copy_(torch.where(left, both - (rest + ahead - both) / 2, both))
        left &= rest.square().sum(dim=1).amax(dim=0) > _OFF_VOXELS**2


# -- the affine --------------------------------------------------------------------------------------------------------


def _centroids(probabilities: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(C - 1, 3) mm about the grid's middle, and (C - 1,) mm³."""
    where = _centred(probabilities.shape[1:], 2.0, probabilities.device)[0].flatten(1)
    mass = probabilities[1:].flatten(1)
    total = mass.sum(dim=1)
    middle = mass @ where.T / total.clamp_min(1e-6)[:, None]
    return middle.double().cpu().numpy(), total.double().cpu().numpy() * 8


def _least_squares(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    root = np.sqrt(weights)[:, None]
    solution = np.linalg.lstsq(np.c_[source, np.ones(len(source))] * root, target * root, rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3] = solution.T
    return matrix


# -- the deformation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Features of one image at one resolution, a row a voxel (V, C + 1): structures, then the intensity."""

    table: Tensor
    shape: tuple[int, ...]


def _as_rows(features: Tensor) -> _Rows:
    return _Rows(features[0].flatten(1).T.contiguous(), tuple(features.shape[2:]))


def _pooled(side: Side, spacing: int) -> _Rows:
    """The features of voxels of ``spacing`` mm."""
    return side.rows if spacing == 2 else _as_rows(F.avg_pool3d(side.features, spacing // 2))


def _solve(
    moving: _Rows, fixed: _Rows, affine_log: np.ndarray, velocity: Tensor, level: Level, effort: Effort
) -> Tensor:
    lattice = velocity.shape[2:]
    middle = _centred(lattice, 1.0, velocity.device)
    halves = [_in_voxels(matrix_exponential(sign * affine_log / 2), level.spacing) for sign in (1, -1)]
    weights = effort.structures * _dice_weights(moving.table, fixed.table)
    steps = (_LONGEST_MM // level.spacing).bit_length() - 1
    region = _region(moving, fixed, halves, middle, velocity)
    descent = _Descent(level, velocity)
    for _ in range(level.iterations):
        moved = integrate_velocity(torch.cat([velocity, -velocity]) / 2, steps, region)
        places = _places(moving, fixed, halves, middle, moved)
        force, images = _structure_force(moving, fixed, places, weights, region)
        velocity = descent(velocity, force + _intensity_force(images, effort))
    return velocity


class _Descent:
    """Steps against a smoothed force, about as long wherever there is one, with a memory of those before."""

    def __init__(self, level: Level, velocity: Tensor) -> None:
        self.level = level
        self.force_mean, self.square_mean = torch.zeros_like(velocity), torch.zeros_like(velocity[:, :1])
        self.count = 0

    def __call__(self, velocity: Tensor, force: Tensor) -> Tensor:
        """The velocity after a step, smoothed; both (1, 3, i, j, k)."""
        self.count += 1
        force = _smoothed(force, self.level.force)
        self.force_mean.lerp_(force, 1 - _MOMENTUM)
        square = force[:, :1].square()
        for other in (force[:, 1:2], force[:, 2:]):
            square.addcmul_(other, other)
        self.square_mean.lerp_(_smoothed(square, 2.0), 1 - _MEMORY)
        quiet = _QUIET * self.square_mean.mean().sqrt() + 1e-12
        size = (self.square_mean / (1 - _MEMORY**self.count)).sqrt_().add_(quiet)
        rate = self.level.rate / (1 - _MOMENTUM**self.count)
        velocity = _smoothed(torch.addcdiv(velocity, self.force_mean, size, value=-rate), self.level.velocity)
        for _ in range(self.level.divergence):
            _diffuse_divergence(velocity)
        return velocity


def _places(moving: _Rows, fixed: _Rows, halves: Sequence[np.ndarray], middle: Tensor, moved: Tensor) -> list[Tensor]:
    """Where the mid-space's voxels lie in both images, each (3, i, j, k), after they have ``moved`` (2, 3, i, j, k)."""
    return [
        _placed(half, middle + moved[s : s + 1], rows.shape)[0]
        for s, (rows, half) in enumerate(zip((moving, fixed), halves, strict=True))
    ]


def _region(moving: _Rows, fixed: _Rows, halves: Sequence[np.ndarray], middle: Tensor, velocity: Tensor) -> Tensor:
    """(i, j, k) bool: where either image has a brain in the mid-space, and some voxels around it. No force is felt
    elsewhere."""
    places = _places(moving, fixed, halves, middle, torch.cat([velocity, -velocity]) / 2)
    found = torch.zeros((1, 1, *velocity.shape[2:]), device=velocity.device)
    for rows, place in zip((moving, fixed), places, strict=True):
        brain = (rows.table.sum(dim=1) > _DARK).float().view(1, 1, *rows.shape)
        found = torch.maximum(found, sample(brain, place[None]))
    return _averaged(found, np.ones(2 * _AROUND + 1))[0, 0] > 0


def _dice_weights(a: Tensor, b: Tensor) -> Tensor:
    """(C,): what turns squared differences into 1 - Dice averaged over the structures that are there."""
    mass = a[:, :-1].square().sum(0) + b[:, :-1].square().sum(0)
    return (mass > 40) / mass.clamp_min(20) / len(mass)


def _structure_force(
    moving: _Rows, fixed: _Rows, places: Sequence[Tensor], weights: Tensor, region: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Derivative of the Dice distance by the velocity (1, 3, i, j, k), and both intensities in the mid-space; 0 outside
    of the ``region``.

    What pulls one image forwards pulls the other back as much, so the slopes of the two are added first.
    """
    lattice = places[0].shape[1:]
    force = torch.zeros((1, 3, *lattice), device=places[0].device)
    if kernels.is_plain(force) and min(*moving.shape, *fixed.shape) > 1:
        images = [torch.zeros((1, 1, *lattice)) for _ in range(2)]
        arrays = [one.contiguous().numpy() for one in (*places, region, weights, force[0], *(i[0, 0] for i in images))]
        sides = moving.table.numpy(), fixed.table.numpy(), moving.shape, fixed.shape
        kernels.in_parallel(kernels.structure_forces, lattice[0], *sides, *arrays, each=region[0].numel(), pieces=1)
        return force, images
    a, b = (
        gather(rows.table, rows.shape, place.flatten(1)).view(*lattice, -1) * region[..., None]
        for rows, place in zip((moving, fixed), places, strict=True)
    )
    both, apart = (a + b)[..., :-1], (a - b)[..., :-1] * weights / 2
    for axis, n in enumerate(lattice):
        change = both.narrow(axis, 2, n - 2) - both.narrow(axis, 0, n - 2)
        force[0, axis].narrow(axis, 1, n - 2).copy_((apart.narrow(axis, 1, n - 2) * change).sum(-1))
    return force, [one[None, None, ..., -1] for one in (a, b)]


def _filled(line: Tensor) -> slice:
    """From the first True to the last, at least three: a slope needs two neighbours."""
    found = line.nonzero()[:, 0]
    start = max(0, min(int(found[0]), len(line) - 3))
    return slice(start, max(int(found[-1]) + 1, start + 3))


def _box(mask: Tensor) -> tuple[slice, ...]:
    """The box of (i, j, k) that holds all that is True."""
    return tuple(_filled(mask.any(dim=other[0]).any(dim=other[1])) for other in ((2, 1), (2, 0), (1, 0)))


def _intensity_force(images: Sequence[Tensor], effort: Effort) -> Tensor:
    """Derivative of minus the local cross-correlation by the velocity, (1, 3, i, j, k)."""
    out = torch.zeros((1, 3, *images[0].shape[2:]), device=images[0].device)
    seen = (images[0] > _DARK) | (images[1] > _DARK)
    if not seen.any():
        return out
    around = effort.window // 2
    box = tuple(slice(max(0, one.start - around), one.stop + around) for one in _box(seen[0, 0]))
    a, b = (image[0, 0][box][None, None] for image in images)
    factor = effort.correlation / seen.sum()
    for pull, image, sign in zip(
        correlation_slopes(a, b, seen[0, 0][box][None, None], effort.window, _FAINT), (a, b), (-0.5, 0.5), strict=True
    ):
        for axis in range(3):
            # Multiplied before it is added, so that equal images pull exactly as much either way.
            out[0, axis][box] += (pull[0, 0] * (sign * factor)).mul_(half_difference(image[0, 0], axis))
    return out


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` voxels over (B, C, i, j, k); the edge continues."""
    if sigma <= 0:
        return x
    reach = max(1, round(2.5 * sigma))
    weights = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    return _averaged(x, weights / weights.sum())


def _averaged(x: Tensor, weights: np.ndarray) -> Tensor:
    """Sums over neighbours along all three axes by the same odd number of ``weights``; the edge continues."""
    if kernels.is_plain(x):
        x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        for one, result in zip(x, out, strict=True):
            arrays = one.numpy(), weights.astype(np.float32), result.numpy()
            kernels.in_parallel(kernels.averaged, x.shape[2], *arrays, each=one[:, 0].numel(), pieces=1)
        return out
    for axis in (4, 3, 2):
        n = x.shape[axis]
        x = weighted_rows(x, axis, np.arange(n) - len(weights) // 2, np.tile(weights, (n, 1)))
    return x


def _diffuse_divergence(velocity: Tensor) -> None:
    """v + s ∇(∇ · v) in place, (1, 3, i, j, k), by central differences: what swells or shrinks is evened out, what only
    shears is left as it is. The faces stay."""
    divergence = torch.zeros_like(velocity[0, 0])
    for axis, along in enumerate(velocity[0]):
        inner, n = divergence.narrow(axis, 1, along.shape[axis] - 2), along.shape[axis]
        inner.add_(along.narrow(axis, 2, n - 2)).sub_(along.narrow(axis, 0, n - 2))
    step = _DIVERGENCE_STEP / 4  # of two differences over two voxels
    for axis, along in enumerate(velocity[0]):
        inner, n = along.narrow(axis, 1, along.shape[axis] - 2), along.shape[axis]
        inner.add_(divergence.narrow(axis, 2, n - 2), alpha=step).sub_(divergence.narrow(axis, 0, n - 2), alpha=step)


def _centred(shape: Sequence[int], spacing: float, device: torch.device) -> Tensor:
    """Voxel centres (1, 3, i, j, k) about the middle of a lattice."""
    half = torch.tensor([(n - 1) / 2 for n in shape], device=device).view(1, 3, 1, 1, 1)
    return (identity_coordinates(shape, device=device) - half) * spacing


def _in_voxels(matrix: np.ndarray, spacing: int) -> np.ndarray:
    scaled = matrix.copy()
    scaled[:3, 3] /= spacing
    return scaled


def _placed(matrix: np.ndarray, where: Tensor, shape: Sequence[int]) -> Tensor:
    """Positions (1, 3, i, j, k) about the middle through a ``matrix``, as voxel indices of a lattice of ``shape``."""
    m = torch.tensor(matrix).to(where)
    middle = torch.tensor([(n - 1) / 2 for n in shape]).to(where)
    return torch.addmm((m[:3, 3] + middle)[:, None], m[:3, :3], where[0].flatten(1)).view_as(where)
