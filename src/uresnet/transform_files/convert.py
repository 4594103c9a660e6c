"""From one program's transform file to another's, and how accurate the written file is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from uresnet.core.choices import FormatName, check_choices
from uresnet.core.files import check_output_files, fresh_outputs
from uresnet.core.format_files import converted_files, files_at, is_one_file
from uresnet.core.grid import Grid
from uresnet.transform import Composite, DisplacementField, Transform
from uresnet.transform_files.apply import difference, read_chain, round_trip, warn_where_reversed
from uresnet.transform_files.files import FORMATS, FileKind, read_transform, write_transform
from uresnet.transform_files.formats.pair import TransformPair, is_affine

Stage = Callable[[str], AbstractContextManager[Any]]
"""Surrounds a stage of the work, whose name it receives."""


def convert_transform(
    transform: str | Path,
    output: str | Path,
    to: FormatName,
    kind: FileKind | None = None,
    overwrite: bool = False,
    stage: Stage = nullcontext,
) -> dict[Path, str]:
    """Write ``transform`` as format ``to``; returns each written file with its accuracy in words.

    An ``output`` with an ending is that one file; without an ending, the names of all files of the format begin with
    it, the inverse among them, or they lie in it if it is a folder. Every warp is read back and compared with the
    original between the fixed image's voxels; then all files take their places together. With ``overwrite`` they
    replace those of an earlier conversion, and files that this transform does not have go.

    Raises :class:`UserError` for a file that is no such transform, a format that needs an image that ``kind`` lacks, an
    affine file for a transform that deforms, and files that exist already.
    """
    check_choices("convert_transform", output=(output, str | Path), to=(to, FormatName))
    files = converted_files(output, to)
    kind, output = kind or FileKind(), Path(output)
    check_output_files(files, overwrite)
    with stage("read"):
        original = read_chain(transform, kind).simplified()
        if kind.fixed is not None and kind.moving is not None:
            warn_where_reversed(original, kind.fixed, kind.moving, "the moving image")
    fixed = _fixed_grid(original, kind)
    if is_one_file(output):
        with fresh_outputs(files, overwrite) as (place,):
            with stage("write"):
                write_transform(original, place, to, fixed, kind.moving)
            with stage("compare"):
                return {output: _accuracy(original, place, to, kind)}
    with stage("invert"):
        pair = TransformPair(original, original.inverse(), fixed, kind.moving)
    writers = FORMATS[to](pair)
    written = files_at(output, writers)
    stale = [file for file in files if file not in written and file.exists()]
    with fresh_outputs(written, overwrite, stale) as places:
        with stage("write"):
            for place, write in zip(places, writers.values(), strict=True):
                write(place)
        with stage("compare"):
            accuracy = _accuracies(pair, dict(zip(writers, places, strict=True)), to, kind)
    accuracy |= {file.name: "removed: of an earlier conversion, and this transform does not deform" for file in stale}
    return {file: accuracy[file.name] for file in (*written, *stale)}


def _accuracies(pair: TransformPair, files: dict[str, Path], to: FormatName, kind: FileKind) -> dict[str, str]:
    """By the files' names. ``files``: by the endings that the format gives them."""
    original, backward = pair.forward, pair.backward
    assert backward is not None
    if to in ("ants", "greedy"):
        return _accuracy_of_chain(original, list(files.values()), to, kind)
    there, back = replace(kind, fixed=pair.fixed), replace(kind, fixed=kind.moving, moving=pair.fixed)
    accuracy = {
        path.name: _accuracy(backward, path, to, back) if "inverse" in ending else _accuracy(original, path, to, there)
        for ending, path in files.items()
    }
    if len(files) > 1 and not is_affine(original):
        trip = round_trip(original, backward, _comparison_grid(original, kind))
        accuracy[list(accuracy)[-1]] += (
            f"; undoes the transform to {trip.mean_mm:.4f} mm on average, {trip.max_mm:.4f} mm at most"
        )
    return accuracy


def _accuracy(original: Transform, path: Path, to: FormatName, kind: FileKind) -> str:
    """The written file, read back, against the original."""
    if is_affine(original):
        return "exact: an affine"
    if path.name.endswith((".lta", ".mat")):
        return "the affine part alone"
    grid = _comparison_grid(original, kind)
    back = read_transform(path, FileKind(to, grid, kind.moving))
    error = difference(original, back, grid)
    return f"differs by {error.mean_mm:.4f} mm on average, {error.max_mm:.4f} mm at most, between the image's voxels"


def _accuracy_of_chain(original: Transform, files: list[Path], to: FormatName, kind: FileKind) -> dict[str, str]:
    """The same for a warp and an affine in two files, and the inverse warp in a third."""
    affine, *warps = files
    accuracy = {affine.name: "exact: an affine"}
    if not warps:
        return accuracy
    forward, backward = warps
    grid, written = _comparison_grid(original, kind), FileKind(to)
    error = difference(original, read_chain([forward, affine], written), grid)
    undone = Composite([read_transform(affine, written).inverse(), read_transform(backward, written)])
    trip = round_trip(original, undone, grid)
    accuracy[forward.name] = (
        f"then {affine.name}: differs by {error.mean_mm:.4f} mm on average, {error.max_mm:.4f} mm at most"
    )
    accuracy[backward.name] = (
        f"after {affine.name} inverted: undoes the transform to {trip.mean_mm:.4f} mm on average, "
        f"{trip.max_mm:.4f} mm at most"
    )
    return accuracy


def _fixed_grid(transform: Transform, kind: FileKind) -> Grid | None:
    """The fixed image's grid, or where nobody named it, that of a deformation that lies in its world."""
    if kind.fixed is not None:
        return kind.fixed
    first = transform.parts[0]
    return first.grid if isinstance(first, DisplacementField) else None


def _comparison_grid(transform: Transform, kind: FileKind) -> Grid:
    """Where transforms are compared: on the fixed image, or else on the deformation's own grid."""
    return kind.fixed or next(part.grid for part in transform.parts if isinstance(part, DisplacementField))
