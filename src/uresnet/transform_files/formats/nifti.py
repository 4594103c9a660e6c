"""Dense warps in NIfTI: a vector at every voxel. The intent in the header, a code and a name, says what they mean.

Written by uresnet as ``nifti``: displacements in LPS mm, as ITK and ANTs read them. The readers and writers of FSL,
FreeSurfer and Learn2Reg build on :func:`read_vectors` and :func:`write_vectors`.

======  ==========  =============================================  ==================================
code    name        vectors                                        who writes it
======  ==========  =============================================  ==================================
1007                displacement, mm, **LPS**; 5D (X, Y, Z, 1, 3)  ITK, ANTs, greedy, elastix, uresnet
1007    Mapping     **position** in the moving world, mm, RAS; 5D  SPM (y_*.nii, iy_*.nii)
1007    NREG_TRANS  as ``intent_p1`` says: 0 position, 1           NiftyReg (its other kinds are
                    displacement; mm, RAS; 5D                      splines and velocities)
1006                displacement, mm, **RAS**; 5D                  FreeSurfer (surfa), 3D Slicer
2006                FSL's scaled voxels, 4D (X, Y, Z, 3)           FNIRT, uresnet
0                   not said; Learn2Reg's voxels are 4D            Learn2Reg
======  ==========  =============================================  ==================================

Any other code is refused; another name with 1007 needs ``--from``. A name can be lost, so vectors that make no sense
as displacements and do as positions are refused too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from isal import igzip

from uresnet.core.files import write_bytes
from uresnet.core.grid import Grid
from uresnet.errors import UserError, quoted
from uresnet.io.headers import checked_grid
from uresnet.transform import DisplacementField, Transform, displacement_on
from uresnet.transform_files.contents import no_transform, volume_bytes, volume_content
from uresnet.transform_files.formats.pair import TransformPair, Writers

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_INTENT, RAS_INTENT, FSL_INTENT, NO_INTENT = 1007, 1006, 2006, 0
VectorKind = Literal["lps", "ras", "position", "fsl", "not said"]
"""What vectors are: displacements in LPS or RAS mm, positions in RAS mm, FSL's."""

_SPLINES = range(2007, 2019)
_NIFTYREG: dict[int, tuple[VectorKind, str]] = {
    0: ("position", "NiftyReg's deformation field: positions, RAS millimetres"),
    1: ("ras", "NiftyReg's displacement field: RAS millimetres"),
}
_FARTHEST_MM = 1e4  # 10 m: a larger displacement is damage
DOUBT = 0.5
"""Two readings of vectors whose stretches (:func:`stretch`) differ by less are both possible."""

NIFTI_SUFFIXES = (".nii.gz", ".nii")


def nifti_files(pair: TransformPair) -> Writers:
    """``warp.nii.gz`` and ``inverse_warp.nii.gz``."""
    out: Writers = {"warp.nii.gz": partial(write_warp, pair.forward, pair.grid("fixed"))}
    if pair.backward is not None:
        out["inverse_warp.nii.gz"] = partial(write_warp, pair.backward, pair.grid("moving"))
    return out


@dataclass(frozen=True, eq=False)
class VectorVolume:
    """``values`` (I, J, K, 3) float32 as they stand in the file, what the header says they are, and the same in words.

    ``image`` is nibabel's, for its header.
    """

    values: np.ndarray
    kind: VectorKind
    meaning: str
    image: Any
    path: Path

    @cached_property
    def grid(self) -> Grid:
        """The voxels of the file. ``UserError`` where its header has no usable ones, or is not in mm."""
        grid = checked_grid(self.path, self.image, one_volume=False)
        if int(self.image.header["xyzt_units"]) & 7 in (1, 3) and not np.allclose(
            grid.zooms, np.linalg.norm(self.image.affine[:3, :3], axis=0), rtol=1e-3
        ):
            raise UserError(f"{self.path} is not in millimetres, as warps are; write it again in mm.")
        return grid

    def ras_displacement(self) -> np.ndarray:
        """(I, J, K, 3), mm, of vectors in LPS or RAS mm; "not said" is taken for LPS.

        ``UserError`` where they make no sense as displacements, and do as positions.
        """
        if self.kind == "position":
            moved = self.values.astype(np.float64)
            moved -= _positions(self.grid)
            return moved
        ras = self.values if self.kind == "ras" else self.values * LPS.diagonal()[:3].astype(np.float32)
        every = [max(1, n // 16) for n in self.grid.shape]
        start, vectors = _positions(self.grid, every), ras[:: every[0], :: every[1], :: every[2]]
        if min(start.shape[:3]) > 1 and stretch(start, vectors) + DOUBT < stretch(start, start + vectors):
            raise UserError(
                f"{self.path} has {self.meaning}, but its vectors are positions, not displacements; give the file as "
                "its program wrote it, or write it again as displacements."
            )
        return ras


def read_vectors(path: Path) -> VectorVolume:
    """Read (X, Y, Z, 1, 3) or (X, Y, Z, 3); any other shape, damage, vectors that are no map between two worlds, and
    values that are not finite: ``UserError``."""

    def size_of(start: bytes) -> int:
        header = _class_of(start).header_class(start[: _class_of(start).header_class.sizeof_hdr], check=False)
        shape = header.get_data_shape()
        if tuple(shape[3:]) not in ((1, 3), (3,)):
            if len(shape) <= 4:
                raise no_transform(path, f"an image (of {quoted(' × '.join(map(str, shape)))} voxels)")
            raise UserError(
                f"{path} is not a dense warp: its shape is {quoted(tuple(shape))} instead of (X, Y, Z, 1, 3) or "
                "(X, Y, Z, 3)."
            )
        if header.get_data_dtype().kind not in "iuf":
            raise UserError(f"{path} is not a dense warp: its values are not plain numbers.")
        return volume_bytes(path, float(header["vox_offset"]), shape, header.get_data_dtype().itemsize)

    content = volume_content(path, path.name.lower().endswith(".gz"), nib.Nifti2Header.sizeof_hdr, size_of)
    image: Any = _class_of(content).from_bytes(content)
    kind, meaning = _said(path, image.header)
    values = np.asarray(image.dataobj, dtype=np.float32).reshape(*image.shape[:3], 3)
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; write the warp again.")
    return VectorVolume(values, kind, meaning, image, path)


def stretch(points: np.ndarray, arrived: np.ndarray) -> float:
    """How much the best linear map from points (..., 3) to where they arrive (..., 3) changes sizes, as a sum of
    logarithms: 0 for a rotation."""
    a, b = (p.reshape(-1, 3) - p.reshape(-1, 3).mean(axis=0) for p in (points, arrived.astype(np.float64)))
    scales = np.linalg.svd(np.linalg.lstsq(a, b, rcond=None)[0], compute_uv=False)
    return float(np.abs(np.log(scales.clip(min=1e-9))).sum())


def _class_of(content: bytes) -> Any:
    return nib.Nifti2Image if nib.Nifti2Header.may_contain_header(content) else nib.Nifti1Image


def _said(path: Path, header: Any) -> tuple[VectorKind, str]:
    """What the header says of the vectors. ``UserError`` where they are no map between two worlds."""
    code = int(header["intent_code"])
    name, description = (_text(header[field]) for field in ("intent_name", "descrip"))
    if re.search("velocit|flow", f"{name} {description}", re.IGNORECASE):
        raise UserError(
            f"{path} says that it is a velocity or flow ({quoted(name or description)}); integrate it first."
        )
    if code in _SPLINES:
        raise UserError(f"{path} holds FSL's spline coefficients; turn them into a field with fnirtfileutils.")
    if code == LPS_INTENT and name.startswith("NREG"):
        kind = int(header["intent_p1"]) if name == "NREG_TRANS" else -1
        if kind not in _NIFTYREG:
            raise UserError(
                f"{path} holds NiftyReg's control points or velocities; turn them into a deformation field with "
                "reg_transform -def."
            )
        return _NIFTYREG[kind]
    if code == LPS_INTENT and name == "Mapping":
        return "position", "the intent name Mapping (SPM's deformation: positions, RAS millimetres)"
    if code == LPS_INTENT and name:
        return "not said", f"the intent name {quoted(name)}, which does not say what its vectors mean"
    known: dict[int, tuple[VectorKind, str]] = {
        LPS_INTENT: ("lps", "intent 1007 (LPS millimetres, as ITK)"),
        RAS_INTENT: ("ras", "intent 1006 (RAS millimetres, as FreeSurfer)"),
        FSL_INTENT: ("fsl", "intent 2006 (an FSL warp)"),
        NO_INTENT: ("not said", "no intent code, so it does not say what its vectors mean"),
    }
    if code not in known:
        raise UserError(
            f"{path} has intent code {code}, which is none of a dense warp; check that it is the right file."
        )
    return known[code]


def _text(field: Any) -> str:
    return bytes(field.item()).split(b"\0")[0].decode("latin-1").strip()


def _positions(grid: Grid, every: Sequence[int] = (1, 1, 1)) -> np.ndarray:
    """(..., 3) world mm of the voxels of ``grid``, or of every n-th along each axis."""
    axes = (np.arange(0, n, step, dtype=np.float64) for n, step in zip(grid.shape, every, strict=True))
    return grid.points_to_world(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def write_vectors(values: np.ndarray, grid: Grid, path: str | Path, intent: int, five: bool = True) -> None:
    """Write (I, J, K, 3) as float32 NIfTI in mm, qform = sform = ``grid``; 5D, or 4D without ``five``."""
    path = Path(path)
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"{path}: a dense warp is written as .nii.gz; give the file that ending.")
    values = np.ascontiguousarray(values, dtype=np.float32)
    image: Any = nib.Nifti1Image(values[:, :, :, None] if five else values, grid.voxel_to_world)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_qform(grid.voxel_to_world, code=1)
    image.set_sform(grid.voxel_to_world, code=1)
    content = image.to_bytes()
    write_bytes(igzip.compress(content, 1, mtime=0) if path.name.lower().endswith(".gz") else content, path)


def write_warp(transform: Transform, grid: Grid, path: str | Path) -> None:
    """Write a transform, its affine part included, as a dense warp on ``grid`` (5D, intent 1007, mm, LPS).

    ANTs and greedy read it. They take the displacement as zero outside ``grid``: prefer an ITK composite.
    """
    write_vectors(ras_vectors(transform, grid) * LPS.diagonal()[:3], grid, path, LPS_INTENT)


def field_files(fields: dict[str, DisplacementField | None]) -> Writers:
    """Writers of fields as dense warps on their own grids; None: no such file."""
    return {name: partial(write_warp, field, field.grid) for name, field in fields.items() if field is not None}


def ras_vectors(transform: Transform, grid: Grid) -> np.ndarray:
    """(I, J, K, 3) float32: T(x) − x, RAS mm, at every voxel of ``grid``; a field's own values on its own grid."""
    first = transform.parts[0]
    own = len(transform.parts) == 1 and isinstance(first, DisplacementField) and first.grid.same_as(grid, 1e-9)
    field = first if own and isinstance(first, DisplacementField) else displacement_on(transform, grid)
    return np.asarray(field.displacement.detach().cpu().permute(1, 2, 3, 0).numpy())


def field_of(path: Path, ras: np.ndarray, grid: Grid) -> DisplacementField:
    """The field of RAS displacements (I, J, K, 3), mm, on ``grid``. ``UserError`` naming ``path`` where they are longer
    than any that brings two images together."""
    if float(max(ras.max(), -ras.min())) > _FARTHEST_MM:
        raise UserError(f"{path} holds a displacement of more than {_FARTHEST_MM / 1e3:g} metres; it is damaged.")
    return DisplacementField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(ras, -1, 0), dtype=np.float32)), grid)


def grid_of(path: Path, shape: Sequence[float] | np.ndarray, voxel_to_world: np.ndarray) -> Grid:
    """A grid that a file states. ``UserError`` naming ``path`` where there can be none."""
    try:
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), voxel_to_world)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path} states a geometry that no image can have; write the file again.") from error
