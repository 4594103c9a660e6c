"""From an image in its own space to the tensor a network sees, and the grid that leads back.

Conforming turns the axes, goes to the network's voxel size, puts the brain in the middle of the network's grid and
scales the intensities. Where only whole voxels have to move, they are copied; otherwise there is one trilinear
interpolation. The result's grid says where every voxel lies in the world, which is all that the way back needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d

from uresnet.config import ConformSpec
from uresnet.core.coordinates import affine_coordinates, slabs
from uresnet.core.grid import AxisCodes, Grid, Shape, axis_order, directions, voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.sampling import sample
from uresnet.errors import UserError, warn_about_input
from uresnet.preprocess.field_of_view import beyond_cuts, find_cuts
from uresnet.preprocess.foreground import find_foreground

_SAME_AXES = 1e-4  # per voxel: 0.02 mm over a head


@dataclass(frozen=True, eq=False)
class Conformed:
    """What the network sees: ``tensor`` (1, 1, I, J, K) float32 in [0, 1] on ``grid``. Outside the brain
    it is as dark as the darkest brain, or darker.

    ``brain_mask`` is (I, J, K) bool; ``unseen`` (I, J, K) bool is what lies beyond the field of view where that cuts
    the brain off, None where it does not; ``abnormal`` (I, J, K) bool is tissue that somebody has drawn as abnormal,
    None where nobody has; ``notes`` say in words what was done to the image. ``slice_mm`` is the longest side of a
    voxel of the image that was given.
    """

    tensor: Tensor
    grid: Grid
    brain_mask: Tensor
    unseen: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    abnormal: Tensor | None = None
    slice_mm: float = 1.0


def conform(image: Image, mask: LabelMap | None = None, spec: ConformSpec | None = None) -> Conformed:
    """Bring an image to the network's axes, voxel size, grid and intensities.

    ``mask`` is the brain on the image's own grid (:func:`extract_brain`); without one, what is not background is brain.
    Brain is never cut off: the grid grows. Where the mask says that the axes run otherwise than the file was assumed to
    mean (``LabelMap.axis_codes``), the head is turned upright; the result's grid says so. Raises :class:`UserError`
    when the brain is empty or has a single intensity, ``ValueError`` when mask and image have different shapes.
    """
    spec = spec or ConformSpec()
    return _conform(_locate(image, mask, spec), spec, "structures there are incomplete, and so are their volumes")


def conform_pair(
    moving: tuple[Image, LabelMap], fixed: tuple[Image, LabelMap], spec: ConformSpec
) -> tuple[Conformed, Conformed]:
    """Conform two images, each with its brain, to grids of one shape: when one brain needs a larger grid, the other
    gets it too. Raises as :func:`conform`."""
    first, second = _locate(*moving, spec), _locate(*fixed, spec)
    shapes = _grown(spec, first), _grown(spec, second)
    if shapes[0] != shapes[1]:
        i, j, k = (max(sizes) for sizes in zip(*shapes, strict=True))
        spec = replace(spec, shape=(i, j, k))
    cut = "nothing is matched to what is missing, and the deformation there only continues that of its surroundings"
    return _conform(first, spec, cut), _conform(second, spec, cut)


def _conform(located: _Located, spec: ConformSpec, cut: str) -> Conformed:
    """``cut`` says what it means where the brain is cut off."""
    image, shape = located.image, _grown(spec, located)
    intensities = _above_background(image, located.brain)
    if located.whole_voxels:
        values, inside, grid = _copied(intensities, located, shape, spec)
        notes = ["voxels copied without interpolation"]
    else:
        values, inside, grid = _interpolated(intensities, located, shape, spec)
        size = " × ".join(f"{z:g}" for z in spec.zooms)
        notes = [f"resampled to {size} mm in {''.join(spec.axis_codes)} axes (trilinear)"]
    if any(n > m for n, m in zip(grid.shape, spec.shape, strict=True)):
        notes.append(f"grid grown from {spec.shape} to {grid.shape} to hold the brain")
    if not inside.any():
        raise UserError(f"{image.name} has a brain smaller than one voxel of the network; give another mask.")
    scaled = _NORMALISATIONS[spec.normalisation](values, inside, image.name)
    if located.upright is not image.grid:
        grid = Grid(grid.shape, image.grid.voxel_to_world @ voxel_to_voxel(grid, located.upright))
    cuts = find_cuts(located.brain, image.grid)
    if cuts:
        faces = " and ".join(dict.fromkeys(cut.face for cut in cuts))
        warn_about_input(f"{image.name} shows a part of the brain only (it is cut off at the {faces}): {cut}.")
    unseen = beyond_cuts(cuts, image.grid, grid)
    conformed = Conformed(
        torch.from_numpy(scaled)[None, None],
        grid,
        torch.from_numpy(inside),
        unseen,
        notes,
        slice_mm=float(image.grid.zooms.max()),
    )
    return conformed if spec.blocks == 1 else _in_blocks(conformed, spec.blocks)


def _in_blocks(conformed: Conformed, side: int) -> Conformed:
    """Means over cubes of ``side`` voxels; a cube is brain when half of it is."""
    share = avg_pool3d(conformed.brain_mask[None, None].float(), side)[0, 0]
    notes = [*conformed.notes, f"averaged over blocks of {side} × {side} × {side} voxels"]
    unseen = conformed.unseen
    if unseen is not None:
        unseen = max_pool3d(unseen[None, None].float(), side)[0, 0] > 0
    return replace(
        conformed,
        tensor=avg_pool3d(conformed.tensor, side),
        grid=conformed.grid.rescaled(side),
        brain_mask=share >= 0.5,
        unseen=unseen,
        notes=notes,
    )


# -- where -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Located:
    """An image whose ``brain`` (I, J, K) bool has been found on its grid ``upright``, and where that brain lies among
    voxels of the network, whatever the shape of its grid: ``middle`` goes to voxel shape // 2, and the brain reaches
    from ``low`` to ``high``, counted from there. ``whole_voxels``: the image has the network's voxels already."""

    image: Image
    brain: np.ndarray
    upright: Grid
    whole_voxels: bool
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _locate(image: Image, mask: LabelMap | None, spec: ConformSpec) -> _Located:
    brain = find_foreground(image).mask if mask is None else mask.mask.numpy()
    if brain.shape != image.grid.shape:
        raise ValueError(f"a mask of shape {brain.shape} on an image of shape {image.grid.shape}")
    if not brain.any():
        raise UserError(f"{image.name} has no brain in its mask; give another mask.")
    upright = _upright(image.grid, None if mask is None else mask.axis_codes)
    whole_voxels = _is_whole_voxels(upright.reoriented(spec.axis_codes), spec)
    middle, low, high = (_whole_voxel_extent if whole_voxels else _interpolated_extent)(brain, upright, spec)
    return _Located(image, brain, upright, whole_voxels, middle, low, high)


def _upright(grid: Grid, axis_codes: AxisCodes | None) -> Grid:
    """The same voxels in a world where their axes point to ``axis_codes``; the grid itself if they do already."""
    if axis_codes is None or axis_codes == grid.axis_codes:
        return grid
    return Grid.centred(grid.shape, grid.zooms, axis_codes, grid.centre_world)


def _is_whole_voxels(aligned: Grid, spec: ConformSpec) -> bool:
    """Whether a grid (already in the axes' order) has the voxels of the network's, up to a shift."""
    wanted = directions(spec.axis_codes) * np.array(spec.zooms)
    return float(np.abs(aligned.voxel_to_world[:3, :3] - wanted).max()) <= _SAME_AXES


def _whole_voxel_extent(brain: np.ndarray, grid: Grid, spec: ConformSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(middle, low, high): the brain's centre, rounded down to a voxel of the reoriented image, and how far it reaches
    from there."""
    brain = _reoriented(brain, grid, spec)
    filled = [np.flatnonzero(brain.any(axis=_others(axis))) for axis in range(3)]
    low = np.array([int(f[0]) for f in filled])
    high = np.array([int(f[-1]) for f in filled])
    centre = _centre_of_mass(brain) if spec.centre == "mass" else (low + high + 1) / 2
    middle = np.floor(centre).astype(int)
    return middle, low - middle, high - middle


def _interpolated_extent(brain: np.ndarray, grid: Grid, spec: ConformSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in voxels of the network about the world's origin; the brain's centre lies where copying whole voxels
    puts it on average."""
    axes = Grid((1, 1, 1), _with_axes(spec))
    surface = np.argwhere(brain & ~ndimage.binary_erosion(brain))
    edge = np.abs(voxel_to_voxel(grid, axes)[:3, :3]).sum(axis=1) / 2  # half a voxel of the image
    points = axes.points_to_voxel(grid.points_to_world(surface))
    low, high = points.min(axis=0) - edge, points.max(axis=0) + edge
    # Copied voxels leave the centre of mass up to a voxel after shape // 2, the box's up to half a voxel before it. A
    # brain that is stored in another way should come to lie in the same place, as near as can be.
    if spec.centre == "mass":
        middle = axes.points_to_voxel(grid.points_to_world(_centre_of_mass(brain))) - 0.5
    else:
        middle = (low + high) / 2 + 0.25
    return middle, np.floor(low - middle), np.ceil(high - middle)


def _copied(
    data: np.ndarray, located: _Located, shape: Shape, spec: ConformSpec
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Whole voxels moved."""
    data, brain = (_reoriented(values, located.upright, spec) for values in (data, located.brain))
    start = located.middle - np.array(shape) // 2
    placed = located.upright.reoriented(spec.axis_codes).subgrid(start, shape)
    return _window(data, start, shape), _window(brain, start, shape), placed


def _interpolated(
    data: np.ndarray, located: _Located, shape: Shape, spec: ConformSpec
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Trilinear onto world-aligned axes."""
    placed = Grid((1, 1, 1), _with_axes(spec)).subgrid(located.middle - np.array(shape) // 2, shape)
    to_image = voxel_to_voxel(placed, located.upright)
    stack = torch.from_numpy(np.stack([data * located.brain, located.brain.astype(np.float32)]))[None]
    out = torch.empty((2, *shape))
    for part in slabs(shape, channels=2):
        where = affine_coordinates(to_image, (part.stop - part.start, *shape[1:]), first_slice=part.start)
        out[:, part] = sample(stack, where, padding="zeros")[0]
    inside = out[1].numpy() >= 0.5
    return out[0].numpy(), inside, placed


def _reoriented(values: np.ndarray, grid: Grid, spec: ConformSpec) -> np.ndarray:
    """An array (I, J, K) of ``grid`` with its axes in the network's order and directions."""
    order, sign = axis_order(grid.axis_codes, spec.axis_codes)
    return values.transpose(order)[tuple(slice(None, None, s) for s in sign)]


def _with_axes(spec: ConformSpec) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = directions(spec.axis_codes) * np.array(spec.zooms)
    return matrix


def _grown(spec: ConformSpec, located: _Located) -> Shape:
    """Smallest allowed shape that holds the brain."""
    sizes = []
    for axis in range(3):
        reach = 2 * max(-int(located.low[axis]) + spec.margin, int(located.high[axis]) + 1 + spec.margin)
        wanted = max(reach, spec.shape[axis])
        sizes.append(-(-wanted // spec.multiple_of) * spec.multiple_of)
    return sizes[0], sizes[1], sizes[2]


def _window(data: np.ndarray, start: np.ndarray, shape: Shape) -> np.ndarray:
    """The box of ``shape`` that begins at voxel ``start``, zero where it reaches outside."""
    out = np.zeros(shape, dtype=data.dtype)
    begin = [max(0, int(s)) for s in start]
    end = [min(n, int(s) + m) for n, s, m in zip(data.shape, start, shape, strict=True)]
    source = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
    target = tuple(slice(b - int(s), e - int(s)) for b, e, s in zip(begin, end, start, strict=True))
    out[target] = data[source]
    return out


def _centre_of_mass(brain: np.ndarray) -> np.ndarray:
    total = int(brain.sum())
    counts = [brain.sum(axis=_others(axis), dtype=np.int64) for axis in range(3)]
    return np.array([int((c * np.arange(len(c))).sum()) / total for c in counts])


def _others(axis: int) -> tuple[int, int]:
    return ((1, 2), (0, 2), (0, 1))[axis]


# -- intensities -----------------------------------------------------------------------------------------------------


def _above_background(image: Image, brain: np.ndarray) -> np.ndarray:
    """Intensities (I, J, K) with the background at 0; unchanged unless the brain itself reaches below zero.

    Files may hold z-scores, or an offset. Then the darkest brain is taken for background and moved to 0 with all other
    values: the normalisations are not affected by an offset, and interpolation towards 0 blends with background.
    """
    data: np.ndarray = image.data.numpy()
    darkest = float(np.quantile(data[brain], 0.005))
    return data - np.float32(darkest) if darkest < 0 else data


def _paper(values: np.ndarray, inside: np.ndarray, name: str) -> np.ndarray:
    brain = values[inside].astype(np.float64)
    mean, std = float(brain.mean()), float(brain.std())
    if std < 1e-6 * max(abs(mean), 1e-30):
        raise UserError(f"{name} has the same intensity everywhere in the brain; check that it is the image you mean.")
    scaled = np.clip((np.where(inside, values, 0).astype(np.float64) - mean) / std, -5, 5)
    low, high = scaled.min(), scaled.max()
    return np.asarray((scaled - low) / (high - low), dtype=np.float32)


def _percentile(values: np.ndarray, inside: np.ndarray, name: str) -> np.ndarray:
    low, high = (float(q) for q in np.quantile(values[inside], (0.005, 0.995)))
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        raise UserError(f"{name} has the same intensity everywhere in the brain; check that it is the image you mean.")
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return np.where(inside, scaled, 0).astype(np.float32)


_NORMALISATIONS = {"paper": _paper, "percentile": _percentile}
