"""FreeSurfer: LTA matrices, and dense warps in ``.mgz`` (RAS displacements with both images' geometries).

An LTA maps its source, the moving image, to its destination, the fixed one: the opposite way to a warp, which sends
fixed voxels into the moving image. FreeSurfer's ``cras`` is the world position of voxel shape / 2.
"""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from uresnet.core.files import write_bytes, write_text
from uresnet.core.grid import Grid
from uresnet.errors import UserError, quoted
from uresnet.io.headers import checked_grid
from uresnet.transform import Affine, DisplacementField, Transform
from uresnet.transform_files.contents import no_transform, volume_bytes, volume_content
from uresnet.transform_files.formats.matrices import affine_of, floats, read_text
from uresnet.transform_files.formats.nifti import VectorVolume, field_of, grid_of, ras_vectors
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_part, is_affine

_VOX_TO_VOX, _RAS_TO_RAS = 0, 1
_WARP = 3  # intent in an .mgz's version number
_GEOMETRY_TAG, _META_TAG = 10, 13
_ABSOLUTE_VOXEL, _VOXEL, _ABSOLUTE_RAS, _RAS = range(4)  # what the vectors of an .mgz warp are
_NAME = 512
_HEADER, _SCAN_PARAMETERS = 284, 20
_FREESURFER_EXTENSION = 14


def freesurfer_files(pair: TransformPair) -> Writers:
    """``affine.lta`` (the affine part), ``warp.mgz`` and ``inverse_warp.mgz`` (all of it)."""
    fixed, moving = pair.grid("fixed"), pair.grid("moving")
    out: Writers = {"affine.lta": partial(write_lta, affine_part(pair.forward), fixed, moving)}
    if not is_affine(pair.forward):
        out["warp.mgz"] = partial(write_mgz_warp, pair.forward, fixed, moving)
        if pair.backward is not None:
            out["inverse_warp.mgz"] = partial(write_mgz_warp, pair.backward, moving, fixed)
    return out


# -- LTA -----------------------------------------------------------------------------------------------------------


def write_lta(affine: Affine, fixed: Grid, moving: Grid, path: str | Path) -> None:
    """Write a RAS-to-RAS LTA, moving → fixed, with both geometries."""
    matrix = np.linalg.inv(affine.matrix)
    rows = ["type      = 1", "nxforms   = 1", "mean      = 0.0 0.0 0.0", "sigma     = 1.0", "1 4 4"]
    rows += [" ".join(f"{value:.15e}" for value in row) for row in matrix]
    rows += ["src volume info", *_geometry_lines(moving), "dst volume info", *_geometry_lines(fixed)]
    write_text("\n".join(rows) + "\n", path)


def read_lta(path: Path) -> Affine:
    """An LTA (voxel-to-voxel or RAS-to-RAS, one transform) as an affine fixed world → moving world."""
    text = read_text(path)
    if text is None:
        raise UserError(f"{path} is not an LTA: it is not text; check that it is the right file.")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    settings = dict(_setting(line) for line in lines if "=" in line)
    start = next((n for n, line in enumerate(lines) if line.split() == ["1", "4", "4"]), None)
    if "type" not in settings or start is None or len(lines) < start + 5:
        raise UserError(f"{path} is not an LTA, or is truncated; check that it is the right file.")
    if settings.get("nxforms", "1") != "1":
        raise UserError(f"{path} holds {quoted(settings['nxforms'])} transforms; give an LTA of one.")
    rows = [floats(path, line.split()) for line in lines[start + 1 : start + 5]]
    if any(len(row) != 4 for row in rows):
        raise UserError(f"{path} is not an LTA, or is truncated; check that it is the right file.")
    matrix = np.array(rows)
    kind = settings["type"]
    if kind == str(_VOX_TO_VOX):
        source, target = (_geometry_after(path, lines, which) for which in ("src", "dst"))
        matrix = target.voxel_to_world @ matrix @ source.world_to_voxel
    elif kind != str(_RAS_TO_RAS):
        raise UserError(
            f"{path} is an LTA of type {quoted(kind)}: only voxel-to-voxel (0) and RAS-to-RAS (1) can be read."
        )
    return affine_of(path, matrix).inverse()


def _setting(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()


def _geometry_lines(grid: Grid) -> list[str]:
    rotation = grid.voxel_to_world[:3, :3] / grid.zooms
    named = {"voxelsize": grid.zooms, "xras  ": rotation[:, 0], "yras  ": rotation[:, 1], "zras  ": rotation[:, 2]}
    named["cras  "] = grid.points_to_world(np.array(grid.shape) / 2)
    lines = ["valid = 1", "filename = none", "volume = {} {} {}".format(*grid.shape)]
    return lines + [f"{name} = " + " ".join(f"{value:.15e}" for value in values) for name, values in named.items()]


def _geometry_after(path: Path, lines: list[str], which: str) -> Grid:
    """The geometry that follows ``src volume info`` or ``dst volume info``."""
    start = next((n for n, line in enumerate(lines) if line.startswith(f"{which} volume info")), None)
    found = {} if start is None else dict(_setting(line) for line in lines[start + 1 : start + 9] if "=" in line)
    names = ("volume", "voxelsize", "xras", "yras", "zras", "cras")
    if found.get("valid") != "1" or not all(name in found for name in names):
        raise UserError(f"{path} maps voxels to voxels without saying of which images ({which} volume info).")
    shape, zooms, x, y, z, centre = (floats(path, found[name].split()) for name in names)
    return _grid(path, shape, zooms, np.stack([x, y, z], axis=1), centre)


def _grid(path: Path, shape: np.ndarray, zooms: np.ndarray, rotation: np.ndarray, centre: np.ndarray) -> Grid:
    if any(len(numbers) != 3 for numbers in (shape, zooms, centre)) or rotation.shape != (3, 3):
        raise UserError(f"{path} states a geometry that is not three-dimensional; it is damaged.")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * zooms
    matrix[:3, 3] = centre - matrix[:3, :3] @ (shape / 2)
    return grid_of(path, shape, matrix)


# -- dense warps ---------------------------------------------------------------------------------------------------


def write_mgz_warp(transform: Transform, fixed: Grid, moving: Grid, path: str | Path) -> None:
    """Write RAS displacements on the fixed grid as an ``.mgz`` warp, affine included. Exact at its voxels."""
    values = np.ascontiguousarray(ras_vectors(transform, fixed), dtype=np.float32)
    content = bytearray(nib.MGHImage(values, fixed.voxel_to_world).to_bytes())
    content[:4] = struct.pack(">i", _WARP << 8 | 1)
    content += struct.pack(">i", _GEOMETRY_TAG) + _geometry_bytes(moving) + _geometry_bytes(fixed)
    content += struct.pack(">iqiif", _META_TAG, 12, _RAS, 1, 0.0)
    write_bytes(igzip.compress(bytes(content), 1, mtime=0), path)


def read_mgz_warp(path: Path) -> DisplacementField:
    """An ``.mgz`` warp, in voxels or RAS, absolute or relative, as a field. ``UserError`` for any other file."""

    def header_of(start: bytes) -> Any:
        # The version number also holds the intent, which nibabel takes for an unknown version.
        return nib.MGHImage.header_class(struct.pack(">i", _version(start) & 0xFF) + start[4:], check=False)

    def size_of(start: bytes) -> int:
        header = header_of(start)
        return volume_bytes(path, _HEADER, header.get_data_shape(), header.get_data_dtype().itemsize)

    content = volume_content(path, path.name.lower().endswith(".mgz"), _HEADER, size_of)
    version, size = _version(content), size_of(content[:_HEADER])
    image: Any = nib.MGHImage.from_bytes(struct.pack(">i", version & 0xFF) + content[4:])
    if len(image.shape) != 4 or image.shape[3] != 3 or version >> 8 != _WARP:
        raise no_transform(path, f"an image (of {' × '.join(map(str, image.shape))} voxels)")
    values = np.asarray(image.dataobj, dtype=np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; write the warp again.")
    kind, moving = _tags(path, content[size + _SCAN_PARAMETERS :])
    grid = checked_grid(path, image, one_volume=False)
    index = np.moveaxis(np.indices(grid.shape, dtype=np.float64), 0, -1)
    if kind in (_ABSOLUTE_VOXEL, _VOXEL):
        if moving is None:
            raise UserError(f"{path} holds voxels of a moving image that it does not describe.")
        values = moving.points_to_world(values + index if kind == _VOXEL else values)
    elif kind == _RAS:
        values = values + grid.points_to_world(index)
    elif kind != _ABSOLUTE_RAS:
        raise UserError(f"{path} holds vectors of a kind that is not known ({kind}); it is damaged.")
    return field_of(path, values - grid.points_to_world(index), grid)


def _version(content: bytes) -> int:
    return int(struct.unpack(">i", content[:4])[0])


def read_ras_warp(volume: VectorVolume) -> DisplacementField:
    """A NIfTI of RAS displacements (intent 1006, 5D), as FreeSurfer's Python library writes it. ``UserError`` where
    FreeSurfer's own part of the header says that they are voxels or positions."""
    for extension in volume.image.header.extensions:
        if extension.get_code() == _FREESURFER_EXTENSION and _kind_in(extension.get_content()) not in (None, _RAS):
            raise UserError(
                f"{volume.path} holds voxels or positions, not displacements; write it again with "
                "mri_warp_convert as .mgz."
            )
    return field_of(volume.path, volume.ras_displacement(), volume.grid)


def _kind_in(extension: bytes) -> int | None:
    """What the vectors of a NIfTI warp are, by FreeSurfer's extension: after four bytes, tags with their lengths."""
    at = 4
    while at + 12 <= len(extension):
        tag, length = struct.unpack_from(">iq", extension, at)
        if tag == _META_TAG:
            return int(struct.unpack_from(">i", extension, at + 12)[0])
        if tag == 0 or length < 0:
            break
        at += 12 + length
    return None


def _geometry_bytes(grid: Grid) -> bytes:
    rotation = (grid.voxel_to_world[:3, :3] / grid.zooms).ravel(order="F")
    centre = grid.points_to_world(np.array(grid.shape) / 2)
    return struct.pack(">i3i15f", 1, *grid.shape, *grid.zooms, *rotation, *centre) + bytes(_NAME)


def _tags(path: Path, footer: bytes) -> tuple[int, Grid | None]:
    """(what the vectors are, moving grid) from what follows the voxels; FreeSurfer's default is absolute voxels."""
    kind, moving, at = _ABSOLUTE_VOXEL, None, 0
    try:
        while at + 4 <= len(footer):
            (tag,) = struct.unpack_from(">i", footer, at)
            at += 4
            if tag == _GEOMETRY_TAG:
                valid, *numbers = struct.unpack_from(">i3i15f", footer, at)
                if valid:
                    parts = np.split(np.array(numbers, dtype=np.float64), [3, 6, 15])
                    moving = _grid(path, parts[0], parts[1], parts[2].reshape(3, 3, order="F"), parts[3])
                at += 2 * (76 + _NAME)
                continue
            if tag <= 0:
                break
            (length,) = struct.unpack_from(">q", footer, at)
            at += 8
            if tag == _META_TAG:
                (kind,) = struct.unpack_from(">i", footer, at)
            at += max(0, length)
    except struct.error as error:
        raise UserError(f"{path} ends in the middle of what describes its warp; it is truncated.") from error
    return kind, moving
