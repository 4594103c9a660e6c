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
from uresnet.errors import UserError
from uresnet.transform import Affine, DisplacementField, Transform
from uresnet.transform_files.formats.matrices import affine_of, floats
from uresnet.transform_files.formats.nifti import DAMAGE, RAS_INTENT, field_of, ras_vectors, read_vectors
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_part, is_affine

_VOX_TO_VOX, _RAS_TO_RAS = 0, 1
_WARP = 3  # intent in an .mgz's version number
_GEOMETRY_TAG, _META_TAG = 10, 13
_ABSOLUTE_VOXEL, _VOXEL, _ABSOLUTE_RAS, _RAS = range(4)  # what the vectors of an .mgz warp are
_NAME = 512
_HEADER = 284


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
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not an LTA: it is not text; check that it is the right file.") from error
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    settings = dict(_setting(line) for line in lines if "=" in line)
    start = next((n for n, line in enumerate(lines) if line.split() == ["1", "4", "4"]), None)
    if "type" not in settings or start is None or len(lines) < start + 5:
        raise UserError(f"{path} is not an LTA, or is truncated; check that it is the right file.")
    if settings.get("nxforms", "1") != "1":
        raise UserError(f"{path} holds {settings['nxforms']} transforms; give an LTA of one.")
    rows = [floats(path, line.split()) for line in lines[start + 1 : start + 5]]
    if any(len(row) != 4 for row in rows):
        raise UserError(f"{path} is not an LTA, or is truncated; check that it is the right file.")
    matrix = np.array(rows)
    kind = settings["type"]
    if kind == str(_VOX_TO_VOX):
        source, target = (_geometry_after(path, lines, which) for which in ("src", "dst"))
        matrix = target.voxel_to_world @ matrix @ source.world_to_voxel
    elif kind != str(_RAS_TO_RAS):
        raise UserError(f"{path} is an LTA of type {kind}: only voxel-to-voxel (0) and RAS-to-RAS (1) can be read.")
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
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * zooms
    matrix[:3, 3] = centre - matrix[:3, :3] @ (shape / 2)
    try:
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)
    except ValueError as error:
        raise UserError(f"{path} holds a geometry that no image can have; write the file again.") from error


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
    try:
        with nib.openers.ImageOpener(str(path)) as file:
            content = file.read()
        # The version number also holds the intent, which nibabel takes for an unknown version.
        (version,) = struct.unpack(">i", content[:4])
        image: Any = nib.MGHImage.from_bytes(struct.pack(">i", version & 0xFF) + content[4:])
        values = np.asarray(image.dataobj, dtype=np.float64)
    except (*DAMAGE, struct.error) as error:
        raise UserError(f"{path} cannot be read as a warp; it is damaged, truncated or of another kind.") from error
    if values.ndim != 4 or values.shape[3] != 3 or version >> 8 != _WARP:
        raise UserError(f"{path} is an image, not a warp (its shape is {values.shape}); give a warp or an LTA.")
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; write the warp again.")
    kind, moving = _tags(path, content[_HEADER + image.header.get_data_dtype().itemsize * values.size + 20 :])
    grid = Grid(values.shape[:3], image.affine)
    index = np.moveaxis(np.indices(grid.shape, dtype=np.float64), 0, -1)
    if kind in (_ABSOLUTE_VOXEL, _VOXEL):
        if moving is None:
            raise UserError(f"{path} holds voxels of a moving image that it does not describe.")
        values = moving.points_to_world(values + index if kind == _VOXEL else values)
    elif kind == _RAS:
        values = values + grid.points_to_world(index)
    return field_of(path, values - grid.points_to_world(index), grid.voxel_to_world)


def read_ras_warp(path: Path) -> DisplacementField:
    """A NIfTI of RAS displacements (intent 1006, 5D), as FreeSurfer's Python library writes it."""
    volume = read_vectors(path)
    if volume.intent != RAS_INTENT:
        raise UserError(f"{path} has {volume.meaning}: it is not a FreeSurfer warp.")
    return field_of(path, volume.values, volume.voxel_to_world)


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
