"""Transform files applied to images and to points, chained, inverted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from uresnet.core.choices import Interpolation
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io import Series, read_grid, read_series
from uresnet.transform import (
    Composite,
    DisplacementField,
    InverseError,
    InverseResidual,
    Transform,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    map_grid,
    resample,
)
from uresnet.transform_files.files import FileKind, read_transform
from uresnet.transform_files.points import PointTable, map_points, read_points

Files = str | Path | Sequence[str | Path]

_PATCHES = 0.5  # share of neighbours in the foreground that are equal: near 1 in label maps, below 0.2 in images


@dataclass(frozen=True, eq=False)
class Applied:
    """``values`` (I, J, K) or (I, J, K, T) on ``grid``, as they go to a file; the ``interpolation`` that they were made
    with, and in a few words the ``reason`` for it. ``source`` is the file that was resampled."""

    values: np.ndarray
    grid: Grid
    interpolation: Interpolation
    reason: str
    source: Series


def read_chain(files: Files, kind: FileKind | None = None) -> Composite:
    """Transform files as one transform, the first applied first to a fixed point: the order of ``antsApplyTransforms
    -t A -t B`` and ``greedy -r A B``.

    The format of ``kind`` is that of the files that do not say what they are. Raises :class:`UserError` for a file that
    is no transform, and where one ends far from where the next is defined.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    if kind is not None and len(paths) > 1:
        kind = replace(kind, one_of_several=True)
    found = [read_transform(path, kind) for path in paths]
    for n in range(len(found) - 1):
        _check_meeting(Composite(found[: n + 1]), found[n + 1], paths[n], paths[n + 1])
    return Composite(found)


def apply_transform(
    transform: Files,
    image: str | Path,
    like: str | Path,
    interpolation: Interpolation | None = None,
    kind: FileKind | None = None,
) -> Applied:
    """The moving ``image`` on the grid of the fixed image ``like``, all files; a series volume by volume.

    Without an ``interpolation``, whole numbers in patches, or of a file whose header says that they are labels, are
    taken for labels ("label": the structure with the largest share of the voxel wins) and everything else is
    interpolated linearly. "label" and "nearest" keep the file's data type. "linear" and "cubic" keep the integers of a
    scan, rounded and clipped to their range; they make float32 of fractions, of scaled integers, and of a label map or
    mask, whose shares of a voxel rounding would lose. Raises :class:`UserError` for files that cannot be used, and when
    no point of ``like`` falls into the image: the wrong transform, or the inverse of the right one.
    """
    chain, grid = read_chain(transform, kind), read_grid(like)
    moving = read_series(image)
    labels = looks_like_labels(moving)
    chosen: Interpolation = interpolation or ("label" if labels else "linear")
    if not _reaches(chain, grid, moving.grid):
        named = transform if isinstance(transform, str | Path) else " then ".join(map(str, transform))
        raise UserError(
            f"{named} sends no point of {like} into {image}; check which image is which, or use the inverse."
        )
    volumes = [_resampled(chain, volume, grid, chosen, moving) for volume in moving.volumes]
    values = np.stack(volumes, axis=-1) if moving.values.ndim == 4 else volumes[0]
    if chosen in ("linear", "cubic") and moving.stored is not None and not labels:
        values = _as_integers(values, moving.stored)
    return Applied(values, grid, chosen, "as asked for" if interpolation else _reason(moving, labels), moving)


def apply_to_points(
    transform: Files,
    points: str | Path,
    lps: bool = False,
    kind: FileKind | None = None,
    like: str | Path | None = None,
) -> PointTable:
    """Points of the **fixed** world, a ``.csv`` file, where the transforms send them in the moving world.

    With ``like``, the fixed image, points outside of it are marked as outside too.
    """
    grid = None if like is None else read_grid(like)
    return map_points(read_chain(transform, kind), read_points(points, lps), grid)


def invert_transform(transform: Files, kind: FileKind | None = None) -> tuple[Transform, InverseResidual | None]:
    """The inverse of transform files, and how well it undoes them (None: exactly, there was nothing to solve)."""
    inverse = read_chain(transform, kind).inverse()
    return inverse, inverse.residual


def jacobian_of(
    transform: Files, like: str | Path | None = None, log: bool = False, kind: FileKind | None = None
) -> tuple[Image, float]:
    """Jacobian determinant of transform files on a grid (default: that of the deformation), and the share that folds.

    ``log``: its natural logarithm, where folds count as 1e-9. Raises :class:`UserError` when the transform has no
    deformation and ``like`` is not given.
    """
    chain = read_chain(transform, kind)
    grid = read_grid(like) if like is not None else _own_grid(chain)
    if grid is None:
        raise UserError(f"{transform} is an affine and has no grid; name an image with --like.")
    determinant = jacobian_determinant(chain, grid)
    folded = folding_fraction(determinant)
    return Image(determinant.clamp(1e-9, 1e9).log() if log else determinant, grid), folded


def difference(first: Transform, second: Transform, grid: Grid) -> InverseError:
    """Distance, mm, between where two transforms send points of ``grid``: mean and largest of 20 000 drawn ones."""
    drawn = np.random.default_rng(0).uniform(size=(20_000, 3)) * (np.array(grid.shape) - 1)
    points = torch.from_numpy(grid.points_to_world(drawn))
    apart = (first.apply(points) - second.apply(points)).norm(dim=1)
    return InverseError(float(apart.mean()), float(apart.max()))


def round_trip(forward: Transform, backward: Transform, grid: Grid) -> InverseError:
    """Distance, mm, between the voxels of ``grid`` and where ``forward`` and then ``backward`` send them."""
    return inverse_error(forward, backward, LabelMap(torch.ones(grid.shape, dtype=torch.int16), grid))


def looks_like_labels(series: Series) -> bool:
    """Whether a file holds whole numbers that the header calls labels (NIfTI's intent 1002), or that lie in patches:
    at least half of all pairs of neighbours that are both not 0 are equal. Single voxels far apart count as patches."""
    if not series.whole:
        return False
    if series.called_labels:
        return True
    first = series.volumes[0]
    equal = both = 0
    for axis in range(3):
        a = np.take(first, range(first.shape[axis] - 1), axis)
        b = np.take(first, range(1, first.shape[axis]), axis)
        inside = (a != 0) & (b != 0)
        both += int(inside.sum())
        equal += int((inside & (a == b)).sum())
    return equal >= _PATCHES * both


def _resampled(
    chain: Transform, volume: np.ndarray, grid: Grid, interpolation: Interpolation, source: Series
) -> np.ndarray:
    if interpolation == "label" and not source.whole:
        raise UserError(f"{source.path} holds fractions; labels are whole numbers: choose linear, nearest or cubic.")
    if interpolation in ("label", "nearest") and source.whole:
        wide = volume.astype(np.int64 if volume.dtype.itemsize > 4 or volume.dtype.kind == "u" else np.int32)
        labels = resample(chain, LabelMap(torch.from_numpy(wide), source.grid), grid, interpolation)
        return labels.data.numpy().astype(volume.dtype if source.stored is None else source.stored)
    finite = np.nan_to_num(volume.astype(np.float32), nan=0, posinf=0, neginf=0)
    return resample(chain, Image(torch.from_numpy(finite), source.grid), grid, interpolation).data.numpy()


def _as_integers(values: np.ndarray, stored: np.dtype) -> np.ndarray:
    """Rounded and clipped: cubic interpolation overshoots, and -1 would become the largest unsigned number."""
    kept = stored.newbyteorder("=")
    limits = np.iinfo(kept)
    # The largest 64-bit integer is not a double: rounded up to one, it would overflow.
    highest = float(limits.max) if limits.bits < 64 else np.nextafter(float(limits.max), 0)
    return np.rint(values.astype(np.float64)).clip(float(limits.min), highest).astype(kept)


def _reason(source: Series, labels: bool) -> str:
    if labels:
        return f"{'called labels in the header' if source.called_labels else 'whole numbers in patches'}: a label map"
    if source.whole:
        return "whole numbers that change from voxel to voxel: a scan"
    return "not only whole numbers: a scan"


def _check_meeting(first: Composite, second: Composite, name: str | Path, following: str | Path) -> None:
    """Raises :class:`UserError` where the first transform sends no point of its own grid into that of the second."""
    start, end = _own_grid(first), _own_grid(second)
    if start is None or end is None:
        return
    points = torch.from_numpy(_lattice_entering(first, start))
    for part in [*first.parts, *second.parts[: _first_field(second)]]:
        points = part.apply(points)
    voxels = end.points_to_voxel(points.numpy())
    inside = ((voxels >= -0.5) & (voxels < np.array(end.shape) - 0.5)).all(axis=-1)
    if not inside.any():
        raise UserError(
            f"{name} and {following} do not meet: no point that {name} reaches lies where {following} is defined; "
            "check their order and which way each maps."
        )


def _lattice_entering(transform: Transform, grid: Grid) -> np.ndarray:
    """(N, 3) points that ``transform`` sends into the grid of its first field, as they are before any of its parts."""
    coarse = grid.rescaled([max(1.0, n / 12) for n in grid.shape])
    points = coarse.points_to_world(
        np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), -1).reshape(-1, 3)
    )
    for part in reversed(transform.parts[: _first_field(transform)]):
        points = part.inverse().apply(torch.from_numpy(points)).numpy()
    return points


def _first_field(transform: Transform) -> int:
    return next((n for n, part in enumerate(transform.parts) if isinstance(part, DisplacementField)), 0)


def _reaches(transform: Transform, fixed: Grid, moving: Grid) -> bool:
    """Whether any point of a coarse lattice over the fixed grid lands in the moving one."""
    factors = [max(1.0, n / 32) for n in fixed.shape]
    where = map_grid(transform, fixed.rescaled(factors), moving.world_to_voxel)[0].flatten(1)
    size = torch.tensor(moving.shape, device=where.device)[:, None]
    return bool(((where >= -0.5) & (where < size - 0.5)).all(dim=0).any())


def _own_grid(transform: Transform) -> Grid | None:
    fields = [part for part in transform.parts if isinstance(part, DisplacementField)]
    return fields[0].grid if fields else None
