"""Transforms in Python: read from a file, and applied to images that the caller holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from uresnet.core.choices import FormatName, Interpolation, check_choices
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io import read_series
from uresnet.io.in_memory import ImageSource, check_source, grid_from, held_series
from uresnet.transform import Composite, Transform
from uresnet.transform_files import FileKind
from uresnet.transform_files import read_transform as read_file
from uresnet.transform_files.apply import resampled_series

TransformSource = str | Path | Transform | Sequence[str | Path | Transform]


def read_transform(
    path: str | Path,
    *,
    format: FormatName | None = None,
    moving: ImageSource | None = None,
    fixed: ImageSource | None = None,
) -> Composite:
    """Read a transform, fixed world → moving world, RAS mm, from a file of any program that uresnet knows.

    ``format`` says whose a file is that does not say so itself (a bare 4×4 matrix of FLIRT or greedy, voxel
    displacements of Learn2Reg); ``moving`` and ``fixed`` are the two images (a path or an image in memory), for formats
    that need their grids. Raises :class:`UserError` for anything that is no transform.

    >>> import uresnet
    >>> transform = uresnet.read_transform("transform.h5")
    >>> transform.apply([[10.0, -20.0, 5.0]]).shape  # (N, 3) points of the fixed world, RAS mm, to the moving world
    (1, 3)
    """
    function = "uresnet.read_transform"
    check_choices(function, path=(path, str | Path), format=(format, FormatName | None))
    grids = {}
    for argument, image in (("fixed", fixed), ("moving", moving)):
        if image is not None:
            check_source(function, argument, image)
            grids[argument] = grid_from(image, argument)
    return read_file(path, FileKind(format, grids.get("fixed"), grids.get("moving")))


def apply(
    transform: TransformSource,
    moving: ImageSource,
    fixed: ImageSource,
    *,
    interpolation: Interpolation | None = None,
    fill: float | None = None,
) -> Image | LabelMap:
    """The ``moving`` image or label map on the grid of the ``fixed`` image.

    ``transform`` is a transform, a file, or several of them, the first applied first to a fixed point (the order of
    ``antsApplyTransforms -t``). Both images are given as to :func:`uresnet.register`. Without an ``interpolation``
    label maps are resampled as such and scans linearly; outside of the image the value is ``fill``, by default the
    image's background. Returns an :class:`~uresnet.Image` (float32), or a :class:`~uresnet.LabelMap`, whose ``data`` is
    (I, J, K) on ``grid``. Raises :class:`UserError` for inputs that cannot be used, and when no point of ``fixed``
    falls into ``moving``.

    >>> import uresnet
    >>> warped = uresnet.apply("transform.h5", "moving.nii.gz", "fixed.nii.gz")
    >>> tuple(warped.data.shape) == warped.grid.shape
    True
    >>> uresnet.apply("transform.h5", "moving_dseg.nii.gz", "fixed.nii.gz")  # labels are never mixed
    <LabelMap 48 × 52 × 45, LPS, 3.7 × 3.9 × 3.5 mm>
    """
    function = "uresnet.apply"
    listed = [transform] if isinstance(transform, str | Path | Transform) else transform
    check_choices(
        function,
        transform=(listed, Sequence[str | Path | Transform]),
        interpolation=(interpolation, Interpolation | None),
        fill=(fill, float | int | None),
    )
    check_source(function, "moving", moving)
    check_source(function, "fixed", fixed)
    if not listed:
        raise UserError(f"{function}: transform is an empty list; give a transform or a file.")
    parts = [each if isinstance(each, Transform) else read_file(each) for each in listed]
    series = read_series(moving) if isinstance(moving, str | Path) else held_series(moving, "moving")
    if series.length > 1:
        raise UserError(f"{series.path} holds {series.length} volumes; give one, or use the command uresnet apply.")
    fixed_name = fixed if isinstance(fixed, str | Path) else "the fixed image"
    miss = f"The transform sends no point of {fixed_name}"
    grid = grid_from(fixed, "fixed")
    applied = resampled_series(Composite(parts), series, grid, interpolation, fill, miss)
    values = torch.from_numpy(applied.values)
    if applied.job.keeps_labels:
        return LabelMap(values, grid)
    return Image(values, grid)
