"""From one program's transform file to another's, and how accurate the written file is."""

from __future__ import annotations

from pathlib import Path

from uresnet.core.choices import FormatName, check_choices
from uresnet.core.files import fresh_files
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import Composite, DisplacementField, Transform
from uresnet.transform_files.apply import difference, read_chain, round_trip
from uresnet.transform_files.files import FORMATS, FileKind, read_transform, write_transform
from uresnet.transform_files.formats.pair import TransformPair, is_affine

_ENDINGS = (".h5", ".mat", ".txt", ".tfm", ".lta", ".mgz", ".nii", ".nii.gz")


def convert_transform(
    transform: str | Path, output: str | Path, to: FormatName, kind: FileKind | None = None
) -> dict[Path, str]:
    """Write ``transform`` as format ``to``; returns each written file with its accuracy in words.

    An ``output`` with an ending is that one file; without an ending, the names of all files of the format begin with
    it, the inverse among them. Every warp is read back and compared with the original between the fixed image's voxels.
    Raises :class:`UserError` for a file that is no such transform, a format that needs an image that ``kind`` lacks,
    and an affine file for a transform that deforms.
    """
    check_choices("convert_transform", output=(output, str | Path), to=(to, FormatName))
    kind, output = kind or FileKind(), Path(output)
    original = read_chain(transform, kind).simplified()
    if output.name.lower().endswith(_ENDINGS):
        write_transform(original, output, to, fixed=_fixed_grid(original, kind), moving=kind.moving)
        return {output: _accuracy(original, output, to, kind)}
    backward = original.inverse()
    pair = TransformPair(original, backward, _fixed_grid(original, kind), kind.moving)
    written = {output.with_name(output.name + ending): write for ending, write in FORMATS[to](pair).items()}
    taken = [path for path in written if path.exists()]
    if taken:
        raise UserError(f"{taken[0]} exists already; choose another beginning for the names with --output.")
    with fresh_files(output.parent) as beside:
        for path, write in written.items():
            write(beside / path.name)
    if to in ("ants", "greedy"):
        return _accuracy_of_chain(original, list(written), to, kind)
    kinds = {False: FileKind(to, pair.fixed, kind.moving), True: FileKind(to, kind.moving, pair.fixed)}
    accuracy = {}
    for path in written:
        inverse = "inverse" in path.name[len(output.name) :]
        accuracy[path] = _accuracy(backward if inverse else original, path, to, kinds[inverse])
    if len(written) > 1 and not is_affine(original):
        trip = round_trip(original, backward, _comparison_grid(original, kind))
        accuracy[path] += f"; undoes the transform to {trip.mean_mm:.4f} mm on average, {trip.max_mm:.4f} mm at most"
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


def _accuracy_of_chain(original: Transform, files: list[Path], to: FormatName, kind: FileKind) -> dict[Path, str]:
    """The same for a warp and an affine in two files, and the inverse warp in a third."""
    affine, *warps = files
    accuracy = {affine: "exact: an affine"}
    if not warps:
        return accuracy
    forward, backward = warps
    grid, written = _comparison_grid(original, kind), FileKind(to)
    error = difference(original, read_chain([forward, affine], written), grid)
    undone = Composite([read_transform(affine, written).inverse(), read_transform(backward, written)])
    trip = round_trip(original, undone, grid)
    accuracy[forward] = (
        f"then {affine.name}: differs by {error.mean_mm:.4f} mm on average, {error.max_mm:.4f} mm at most"
    )
    accuracy[backward] = (
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
