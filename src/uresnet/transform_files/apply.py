"""Transform files applied to images and to points, chained, inverted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from uresnet.core.choices import Interpolation
from uresnet.core.coordinates import slabs
from uresnet.core.files import written_whole
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError, warn_about_input
from uresnet.io import Series, read_grid, read_series, write_series
from uresnet.transform import (
    Composite,
    DisplacementField,
    InverseError,
    Transform,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    map_grid,
)
from uresnet.transform_files.files import FileKind, read_transform
from uresnet.transform_files.points import PointTable, map_points, read_points
from uresnet.transform_files.resampling import Resampling

Files = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class Applied:
    """An image that is resampled as it is asked for: ``job`` says how, ``reason`` in a few words why so."""

    job: Resampling
    reason: str

    @property
    def values(self) -> np.ndarray:
        """(I, J, K) or (I, J, K, T), all in memory."""
        return np.stack(list(self.job.volumes()), axis=-1).reshape(self.job.shape)

    @property
    def interpolation(self) -> Interpolation:
        """The one that was asked for or chosen."""
        return self.job.interpolation

    def write(self, path: str | Path, volumes: str | Path | None = None) -> None:
        """Write the image, volume by volume, and a table of the ``volumes`` of its labels before and after.

        Raises :class:`UserError` where the disk lacks the space, and for a table of what is no label map.
        """
        if volumes is not None and not self.job.keeps_labels:
            raise UserError(f"{self.job.source.path} is no label map, so it has no volumes; leave out --volumes.")
        job = self.job
        with nullcontext() if volumes is None else written_whole(volumes) as beside:
            write_series(job.volumes(), (job.shape, job.dtype), job.grid, path, job.source, names=job.keeps_values)
            if beside is not None:
                beside.write_text(job.table(), encoding="utf-8")


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
    fill: float | None = None,
) -> Applied:
    """The moving ``image`` on the grid of the fixed image ``like``, all files; a series volume by volume.

    Without an ``interpolation``, label maps (:func:`uresnet.io.kinds.decide_kind`) are resampled as such ("label": the
    structure with the largest share of the voxel wins) and everything else is interpolated linearly. "label" and
    "nearest" keep the file's data type. "linear" and "cubic" keep the integers of a scan, rounded and clipped to their
    range; they make float32 of fractions, of scaled integers, and of a label map or mask, whose shares of a voxel
    rounding would lose. Outside of the image the value is ``fill``, by default the image's background.

    Raises :class:`UserError` for files that cannot be used, for a ``fill`` that the result cannot hold, and when no
    point of ``like`` falls into the image: the wrong transform, or the inverse of the right one.
    """
    chain, grid = read_chain(transform, kind), read_grid(like)
    named = transform if isinstance(transform, str | Path) else " then ".join(map(str, transform))
    return resampled_series(chain, read_series(image), grid, interpolation, fill, f"{named} sends no point of {like}")


def resampled_series(
    chain: Transform, moving: Series, grid: Grid, interpolation: Interpolation | None, fill: float | None, miss: str
) -> Applied:
    """The same for a series that is open already; ``miss`` begins the sentence for a transform that misses it."""
    found = moving.kind()
    chosen: Interpolation = interpolation or ("label" if found.labels else "linear")
    if chosen == "label" and not found.whole:
        raise UserError(f"{moving.path} holds fractions; labels are whole numbers: choose linear, nearest or cubic.")
    if not _reaches(chain, grid, moving.grid):
        raise UserError(f"{miss} into {moving.path}; check which image is which, or use the inverse.")
    warn_where_reversed(chain, grid, moving.grid, moving.path)
    job = Resampling(moving, found, chain, grid, chosen, fill)
    return Applied(job, "as asked for" if interpolation else found.reason)


def apply_to_points(
    transform: Files,
    points: str | Path,
    lps: bool | None = None,
    kind: FileKind | None = None,
    like: str | Path | None = None,
) -> PointTable:
    """Points of the **fixed** world, a file, where the transforms send them in the moving world; ``lps`` as in
    :func:`read_points`.

    With ``like``, the fixed image, points outside of it are marked as outside too.
    """
    grid = None if like is None else read_grid(like)
    return map_points(read_chain(transform, kind), read_points(points, lps), grid)


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


def _check_meeting(first: Composite, second: Composite, name: str | Path, following: str | Path) -> None:
    """Raises :class:`UserError` where the first transform sends no point of its own grid into that of the second."""
    start, end = _own_grid(first), _own_grid(second)
    if start is None or end is None:
        return
    for steps in (12, 64):  # a thin slab may lie between the points of a coarse lattice
        points = torch.from_numpy(_lattice_entering(first, start, steps))
        for part in [*first.parts, *second.parts[: _first_field(second)]]:
            points = part.apply(points)
        voxels = end.points_to_voxel(points.numpy())
        if ((voxels >= -0.5) & (voxels < np.array(end.shape) - 0.5)).all(axis=-1).any():
            return
    raise UserError(
        f"{name} and {following} do not meet: no point that {name} reaches lies where {following} is defined; check "
        "their order and which way each maps."
    )


def _lattice_entering(transform: Transform, grid: Grid, steps: int) -> np.ndarray:
    """(N, 3) points that ``transform`` sends into the grid of its first field, as they are before any of its parts;
    ``steps`` along each axis."""
    coarse = grid.rescaled([max(1.0, n / steps) for n in grid.shape])
    points = coarse.points_to_world(
        np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), -1).reshape(-1, 3)
    )
    for part in reversed(transform.parts[: _first_field(transform)]):
        points = part.inverse().apply(torch.from_numpy(points)).numpy()
    return points


def _first_field(transform: Transform) -> int:
    return next((n for n, part in enumerate(transform.parts) if isinstance(part, DisplacementField)), 0)


def _reaches(transform: Transform, fixed: Grid, moving: Grid) -> bool:
    """Whether any voxel of the fixed grid lands in the moving one: a coarse lattice tells, but for a thin slab."""
    coarse = fixed.rescaled([max(1.0, n / 32) for n in fixed.shape])
    size = torch.tensor(moving.shape)[:, None]

    def lands(grid: Grid, rows: slice | None = None) -> bool:
        where = map_grid(transform, grid, moving.world_to_voxel, rows)[0].flatten(1).cpu()
        return bool(((where >= -0.5) & (where < size - 0.5)).all(dim=0).any())

    return lands(coarse) or any(lands(fixed, rows) for rows in slabs(fixed.shape, channels=4))


def warn_where_reversed(transform: Transform, fixed: Grid, moving: Grid, name: str) -> None:
    """Warn of a transform that begins on the voxels of the moving image, ``name``, and not on the fixed one's."""
    first = transform.parts[0]
    if (
        isinstance(first, DisplacementField)
        and first.grid.same_as(moving, 1e-2)
        and not first.grid.same_as(fixed, 1e-2)
    ):
        warn_about_input(
            f"The deformation lies on the voxels of {name}, as that of a transform which brings other images to it; "
            "check which way it maps, or use the inverse."
        )


def _own_grid(transform: Transform) -> Grid | None:
    fields = [part for part in transform.parts if isinstance(part, DisplacementField)]
    return fields[0].grid if fields else None
