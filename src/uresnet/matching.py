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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.losses import correlation_slopes
from uresnet.sampling import gather, identity_coordinates, sample, slabs
from uresnet.transform.affine import matrix_exponential, matrix_logarithm
from uresnet.transform.deformation import integrate_velocity
from uresnet.transform.inversion import half_difference

_SMALLEST_MM3 = 100.0  # a structure smaller than this says nothing of where the head is
_MOMENTUM, _MEMORY = 0.8, 0.95  # of the force and of its square, as Adam's
_DOUBLINGS, _FINEST_DOUBLINGS = 4, 0  # of the exponentials that are kept
_CORRECTIONS, _FINISHING = 1, 3  # of all points, and of those that are still off by more than
_OFF_MM = 0.02
_DARK = 0.02  # of intensities, and of probabilities of structures
_AROUND = 2  # voxels around the brain that move with it
_LONGEST_MM = 8  # decides into how many doublings half a velocity is cut: 2 at 2 mm, none at 8 mm
_QUIET = 0.3  # share of the mean force below which forces count as noise
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
    its own. ``evened``: bends of single voxels, which cost invertibility more than they are worth, are evened out."""

    levels: tuple[Level, ...]
    structures: float = 1.0
    correlation: float = 2.0
    window: int = 5
    finest: Level | None = None
    evened: bool = False


SWIFT = Effort(
    (
        Level(8, 10, 0.5, velocity=0.75),
        Level(4, 12, 0.6, velocity=0.75, divergence=1),
        Level(2, 8, 0.9, velocity=0.75, divergence=2),
    ),
    correlation=4.0,
    finest=Level(1, 2, 1.0, force=1.0, velocity=1.0, divergence=4),
    evened=True,
)
"""What a registration does unless it is told otherwise."""

REFINED = Effort(
    tuple(replace(level, velocity=0.65) for level in SWIFT.levels),
    correlation=4.0,
    finest=Level(1, 8, 0.7, force=1.0, velocity=1.0, divergence=4),
)
"""What ``--refine`` does: less smoothing, and more steps where the images have their voxels."""


@dataclass(frozen=True, eq=False)
class Side:
    """One image: ``probabilities`` (C, I/2, J/2, K/2), background first, and ``intensities`` (1, 1, I, J, K) in [0, 1],
    of voxels of 1 mm."""

    probabilities: Tensor
    intensities: Tensor


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


def velocity_between(moving: Side, fixed: Side, affine_log: np.ndarray, groups: Tensor, effort: Effort) -> Tensor:
    """Velocity (1, 3, i, j, k), voxels of the last level's lattice: T is half the affine, exp(v), half the affine.

    ``affine_log`` is that of :func:`affine_between`; ``groups`` (C,) says which structure each class is compared as, 0
    for none (both sides of the brain may share one: they never meet).
    """
    pyramid = [_pyramid(side, groups, [level.spacing for level in effort.levels]) for side in (moving, fixed)]
    shape = moving.intensities.shape[2:]
    velocity, spacing = None, None
    for level in effort.levels:
        lattice = [n // level.spacing for n in shape]
        if velocity is None or spacing is None:
            velocity = torch.zeros((1, 3, *lattice), device=moving.intensities.device)
        else:
            finer = F.interpolate(velocity, size=lattice, mode="trilinear", align_corners=False)
            velocity = finer * (spacing / level.spacing)
        spacing = level.spacing
        velocity = _solve(pyramid[0][spacing], pyramid[1][spacing], affine_log, velocity, level, effort)
    assert velocity is not None
    return velocity


def finest_velocity(
    moving: Side, fixed: Side, affine_log: np.ndarray, velocity: Tensor, groups: Tensor, effort: Effort
) -> Tensor:
    """A second velocity w (1, 3, I, J, K), mm, of voxels of 1 mm: T is half the affine, exp(v/2), exp(w), exp(v/2),
    half the affine.

    ``velocity`` is v, of voxels of 2 mm. Both images are brought to the mid-space by it once; w is what is still to be
    done there, so short that half of it is its own exponential while it is looked for. Exchanging the images turns it
    round, as v. 0 where no brain is.
    """
    level, shape = effort.finest, moving.intensities.shape[2:]
    assert level is not None
    out = torch.zeros((1, 3, *shape), device=velocity.device)
    rows = [_pyramid(side, groups, [2])[2] for side in (moving, fixed)]
    middle = _centred(velocity.shape[2:], 1.0, velocity.device)
    halves = [matrix_exponential(sign * affine_log / 2) for sign in (1, -1)]
    coarse_halves = [_in_voxels(half, 2) for half in halves]
    region = _region(rows[0], rows[1], coarse_halves, middle, velocity)
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
    moved = 2 * F.interpolate(moved, size=list(shape), mode="trilinear", align_corners=False)[fine_box]
    images = [
        sample(side.intensities, _placed(half, start + moved[s : s + 1], shape))
        for s, (side, half) in enumerate(zip((moving, fixed), halves, strict=True))
    ]

    weights = effort.structures * _dice_weights(rows[0].table, rows[1].table)
    voxels, coarse_voxels = (identity_coordinates(one.shape[-3:], device=out.device) for one in (images[0], region))
    found = torch.zeros_like(start)
    descent = _Descent(level, found)
    for _ in range(level.iterations):
        half = found / 2
        seen = [sample(image, voxels + s * half, padding="border") for s, image in zip((1, -1), images, strict=True)]
        half = F.avg_pool3d(half, 2) / 2
        places = [(coarse_voxels + s * half)[0] for s in (1, -1)]
        force, _ = _structure_force(structures[0], structures[1], places, weights, region)
        # A voxel of 2 mm is eight, each with half the slope.
        force = F.interpolate(force / 16, scale_factor=2, mode="trilinear", align_corners=False)
        found = descent(found, force + _intensity_force(seen, effort))
    out[fine_box] = found
    return out


def brain_between(moving: Side, fixed: Side, affine_log: np.ndarray, velocity: Tensor, spacing: int) -> Tensor:
    """(i, j, k) bool on the lattice of ``velocity``, voxels of ``spacing`` mm: where either image has its brain in the
    mid-space, or close by."""
    nothing = torch.zeros(len(moving.probabilities), dtype=torch.long, device=velocity.device)  # intensities will do
    one, other = (_pyramid(side, nothing, [spacing])[spacing] for side in (moving, fixed))
    halves = [_in_voxels(matrix_exponential(sign * affine_log / 2), spacing) for sign in (1, -1)]
    return _region(one, other, halves, _centred(velocity.shape[2:], 1.0, velocity.device), velocity)


def displacements(
    velocity: Tensor,
    spacing: int,
    shape: Sequence[int],
    where: Tensor | None = None,
    finest: Tensor | None = None,
    evened: bool = False,
) -> tuple[Tensor, Tensor]:
    """exp(v) - id and exp(-v) - id, each (3, I, J, K), mm, on the 1 mm lattice of ``shape``; with ``finest`` the second
    velocity w is between two halves of v, and ``evened`` takes the mean over 3×3×3 voxels of the result.

    Both are integrated where the velocity lives and brought to 1 mm, which costs them a little of being each other's
    inverse. Each then takes half of Newton's step towards what undoes the other, which keeps the two exchangeable.
    ``where`` (i, j, k) bool, on the velocity's lattice, is where that is done; everywhere by default.
    """
    part = 1.0 if finest is None else 0.5
    both = integrate_velocity(part * torch.cat([velocity, -velocity]), _DOUBLINGS, where) * spacing
    fine = F.interpolate(both, size=list(shape), mode="trilinear", align_corners=False)
    # The creases of linear interpolation would be read as such by whoever reads the field between its voxels.
    _blur(fine)
    inside = torch.ones(tuple(shape), dtype=torch.bool, device=fine.device)
    if where is not None:
        inside = F.interpolate(where[None, None].float(), size=list(shape))[0, 0] > 0
    points = inside.flatten().nonzero()[:, 0]
    if finest is not None:
        between = integrate_velocity(torch.cat([finest, -finest]), _FINEST_DOUBLINGS, inside)
        fine = _chained((fine, between, fine), points)
    if evened:
        _blur(fine)
    for n in range(_CORRECTIONS + _FINISHING):
        off = _correct(fine, points)
        if n >= _CORRECTIONS - 1:
            points = points[off > _OFF_MM]
    return fine[0], fine[1]


def _blur(x: Tensor) -> None:
    """Means over 3×3×3 voxels in place, but for the faces; one volume of (B, C, I, J, K) at a time, for the cache."""
    for volume in x.flatten(0, 1):
        for axis, n in enumerate(volume.shape):
            before = volume.clone()
            inner = volume.narrow(axis, 1, n - 2)
            inner.add_(before.narrow(axis, 0, n - 2)).add_(before.narrow(axis, 2, n - 2)).div_(3)


def _chained(parts: Sequence[Tensor], points: Tensor) -> Tensor:
    """One displacement after the other, each (B, 3, I, J, K), voxels, at ``points`` (indices of voxels); elsewhere they
    are added."""
    out = torch.stack(list(parts)).sum(dim=0)
    start = identity_coordinates(out.shape[2:], device=out.device).flatten(2)[:, :, points]
    own = parts[0].flatten(2)[:, :, points]
    for part in parts[1:]:
        own = own + sample(part, (start + own)[..., None, None], padding="border")[..., 0, 0]
    out.flatten(2)[:, :, points] = own
    return out


def _correct(both: Tensor, points: Tensor) -> Tensor:
    """Changes two displacements (2, 3, I, J, K), voxels, at ``points`` (indices of voxels) so that they come closer to
    undoing each other; how far off they were, (N,), voxels."""
    flat = both.flatten(2)
    start = identity_coordinates(both.shape[2:], device=both.device).flatten(2)[:, :, points]
    own = flat[:, :, points]
    rest = own + sample(both.flip(0), (start + own)[..., None, None], padding="border")[..., 0, 0]
    # φ(x + r) − φ(x) is the derivative of φ along r, and that the inverse of the other's derivative.
    ahead = sample(both, (start + rest)[..., None, None], padding="border")[..., 0, 0]
    flat[:, :, points] = own - (rest + ahead - own) / 2
    return rest.square().sum(dim=1).amax(dim=0).sqrt()


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


def _pyramid(side: Side, groups: Tensor, spacings: Sequence[int]) -> dict[int, _Rows]:
    merged = torch.zeros((int(groups.max()) + 1, *side.probabilities.shape[1:]), device=side.probabilities.device)
    merged.index_add_(0, groups, side.probabilities)
    features = torch.cat([merged[1:], F.avg_pool3d(side.intensities, 2)[0]])[None]
    found = {}
    for spacing in spacings:
        pooled = F.avg_pool3d(features, spacing // 2)[0] if spacing > 2 else features[0]
        found[spacing] = _Rows(pooled.flatten(1).T.contiguous(), tuple(pooled.shape[1:]))
    return found


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
        self.square_mean.lerp_(_smoothed(force.square().sum(1, keepdim=True), 2.0), 1 - _MEMORY)
        size = (self.square_mean / (1 - _MEMORY**self.count)).sqrt()
        quiet = _QUIET * self.square_mean.mean().sqrt() + 1e-12
        step = self.force_mean / (1 - _MOMENTUM**self.count) / (size + quiet)
        velocity = _smoothed(velocity - self.level.rate * step, self.level.velocity)
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
    for _ in range(_AROUND):
        found = F.max_pool3d(found, 3, stride=1, padding=1)
    return found[0, 0] > 0


def _dice_weights(a: Tensor, b: Tensor) -> Tensor:
    """(C,): what turns squared differences into 1 - Dice averaged over the structures that are there."""
    mass = a[:, :-1].square().sum(0) + b[:, :-1].square().sum(0)
    return (mass > 40) / mass.clamp_min(20) / len(mass)


def _structure_force(
    moving: _Rows, fixed: _Rows, places: Sequence[Tensor], weights: Tensor, region: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Derivative of the Dice distance by the velocity (1, 3, i, j, k), and both intensities in the mid-space; 0 outside
    of the ``region``'s box in each of the slabs that stay in the processor's cache.

    What pulls one image forwards pulls the other back as much, so the slopes of the two are added first.
    """
    lattice = places[0].shape[1:]
    force = torch.zeros((1, 3, *lattice), device=places[0].device)
    images = [torch.zeros((1, 1, *lattice), device=force.device) for _ in range(2)]
    last = lattice[0]
    for part in slabs(lattice, channels=moving.table.shape[1], budget=1_500_000):
        halo = slice(max(0, part.start - 1), min(last, part.stop + 1))
        own = slice(part.start - halo.start, part.stop - halo.start)
        if not region[part].any():
            continue
        box = (halo, *(_filled(region[part].any(dim=0).any(dim=1 - axis)) for axis in range(2)))
        a, b = (
            gather(rows.table, rows.shape, place[(slice(None), *box)].flatten(1)).view(*region[box].shape, -1)
            for rows, place in zip((moving, fixed), places, strict=True)
        )
        mine = (part, *box[1:])
        images[0][0, 0][mine], images[1][0, 0][mine] = a[own, ..., -1], b[own, ..., -1]
        a, b = a[..., :-1], b[..., :-1]
        both, apart = a + b, (a - b)[own] * weights
        for axis in (1, 2):
            n = both.shape[axis]
            change = (both.narrow(axis, 2, n - 2) - both.narrow(axis, 0, n - 2))[own]
            slopes = (apart.narrow(axis, 1, n - 2) * change).sum(-1)
            force[0, axis][mine].narrow(axis, 1, n - 2).copy_(slopes)
        inner = slice(max(1, part.start), min(last - 1, part.stop))
        here = slice(inner.start - halo.start, inner.stop - halo.start)
        change = both[here.start + 1 : here.stop + 1] - both[here.start - 1 : here.stop - 1]
        force[0, 0][(inner, *box[1:])] = (apart[inner.start - part.start : inner.stop - part.start] * change).sum(-1)
    return force / 2, images


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
        correlation_slopes(a, b, seen[0, 0][box][None, None], effort.window, 1e-4), (a, b), (-0.5, 0.5), strict=True
    ):
        for axis in range(3):
            out[0, axis][box] += sign * factor * pull[0, 0] * half_difference(image[0, 0], axis)
    return out


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` voxels over (1, C, i, j, k); the edge continues. In slabs that stay in the processor's
    cache, which takes a third of a convolution's time."""
    if sigma <= 0:
        return x
    reach = max(1, round(2.5 * sigma))
    kernel = torch.exp(-torch.arange(reach + 1).float().square() / (2 * sigma * sigma))
    weights = (kernel / (2 * kernel.sum() - kernel[0])).tolist()
    out = torch.empty_like(x)
    for volume, smooth in zip(x[0], out[0], strict=True):
        partly = _smoothed_along(volume, weights, 0)
        for part in slabs(volume.shape, channels=1, budget=200_000):
            smooth[part] = _smoothed_along(_smoothed_along(partly[part], weights, 1), weights, 2)
    return out


def _smoothed_along(x: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Of (i, j, k): ``weights[n]`` times both voxels at a distance of n, summed; the edge continues."""
    n, out = x.shape[axis], x * weights[0]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
    for step, weight in enumerate(weights[1:], start=1):
        inside = max(0, n - step)
        out.narrow(axis, 0, inside).add_(x.narrow(axis, n - inside, inside), alpha=weight)
        out.narrow(axis, inside, n - inside).add_(last, alpha=weight)
        out.narrow(axis, n - inside, inside).add_(x.narrow(axis, 0, inside), alpha=weight)
        out.narrow(axis, 0, n - inside).add_(first, alpha=weight)
    return out


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
