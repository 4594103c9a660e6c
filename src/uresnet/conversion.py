"""From one program's transform file to another's, with the accuracy of what was written."""

from __future__ import annotations

from pathlib import Path

from uresnet.errors import UserError
from uresnet.resampling import difference, read_chain, round_trip
from uresnet.spaces import Grid
from uresnet.transform import Composite, DisplacementField, FileKind, Transform
from uresnet.transform.export import FORMATS, TransformPair, read_transform, write_transform

_ENDINGS = (".h5", ".mat", ".txt", ".tfm", ".lta", ".mgz", ".nii", ".nii.gz")


def convert_transform(
    transform: str | Path, output: str | Path, to: str, kind: FileKind | None = None
) -> dict[Path, str]:
    """Write ``transform`` as format ``to``; returns each written file with how exact it is, in words.

    An ``output`` with an ending is that one file; without, all files of the format begin with it, the inverse among
    them. Every warp is read back and compared with the original between the fixed image's voxels. Raises
    :class:`UserError` for a file that is no such transform, a format that needs an image that ``kind`` lacks, and an
    affine file for a transform that deforms.
    """
    kind, output = kind or FileKind(), Path(output)
    original = read_chain(transform, kind).simplified()
    if output.name.lower().endswith(_ENDINGS):
        write_transform(original, output, to, fixed=_fixed_grid(original, kind), moving=kind.moving)
        return {output: _exactness(original, output, to, kind)}
    backward = original.inverse()
    pair = TransformPair(original, backward, _fixed_grid(original, kind), kind.moving)
    written = {output.with_name(output.name + ending): write for ending, write in FORMATS[to](pair).items()}
    taken = [path for path in written if path.exists()]
    if taken:
        raise UserError(f"{taken[0]} exists already; choose another beginning for the names with --output.")
    for path, write in written.items():
        write(path)
    turned = FileKind(to, kind.moving, pair.fixed)
    said = {}
    for path in written:
        inverse = "nverse" in path.name
        if to in ("ants", "greedy"):
            said[path] = "inverse warp: after the inverted affine" if inverse else "with the other file, in this order"
        elif inverse:
            said[path] = _exactness(backward, path, to, turned)
        else:
            said[path] = _exactness(original, path, to, FileKind(to, pair.fixed, kind.moving))
    if to in ("ants", "greedy"):
        said |= _exactness_of_chain(original, backward, list(written), pair.fixed)
    elif pair.fixed is not None and backward.residual is not None:
        error = round_trip(original, backward, pair.fixed)
        last = next(reversed(said))
        said[last] += f"; inverse after transform: mean {error.mean_mm:.4f} mm, at most {error.max_mm:.4f} mm"
    return said


def _exactness(original: Transform, path: Path, to: str, kind: FileKind) -> str:
    """The written file, read back, against the original."""
    if all(not isinstance(part, DisplacementField) for part in original.parts):
        return "exact: an affine"
    if path.name.endswith((".lta", ".mat")):
        return "the affine part alone"
    grid = _fixed_grid(original, kind) or next(p.grid for p in original.parts if isinstance(p, DisplacementField))
    back = read_transform(path, FileKind(to, grid, kind.moving))
    error = difference(original, back, grid)
    return f"differs by {error.mean_mm:.4f} mm on average, {error.max_mm:.4f} mm at most, between the fixed voxels"


def _exactness_of_chain(
    original: Transform, backward: Transform, files: list[Path], fixed: Grid | None
) -> dict[Path, str]:
    """The same for a warp and an affine in two files."""
    affine = next(path for path in files if path.name.endswith(".mat"))
    warps = [path for path in files if path != affine]
    if not warps or fixed is None:
        return {affine: "exact: an affine"}
    forward = read_chain([warps[0], affine])
    error = difference(original, forward, fixed)
    said = {
        warps[0]: f"before {affine.name}: differs by {error.mean_mm:.4f} mm on average, {error.max_mm:.4f} mm at most"
    }
    if len(warps) > 1:
        inverse = Composite([read_transform(affine).inverse(), read_transform(warps[1])])
        trip = round_trip(original, inverse, fixed)
        said[warps[1]] = (
            f"after {affine.name} inverted: undoes the transform to {trip.mean_mm:.4f} mm on average, "
            f"{trip.max_mm:.4f} mm at most"
        )
    return said


def _fixed_grid(transform: Transform, kind: FileKind) -> Grid | None:
    """The fixed image's grid, or where nobody named it, that of the deformation."""
    if kind.fixed is not None:
        return kind.fixed
    first = transform.parts[0]
    return first.grid if isinstance(first, DisplacementField) else None
