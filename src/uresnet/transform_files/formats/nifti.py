"""Dense warps in NIfTI: a vector at every voxel. The intent code in the header says what the vectors mean.

Written by uresnet as ``nifti``: displacements in LPS mm, as ITK and ANTs read them. The readers and writers of FSL,
FreeSurfer and Learn2Reg build on :func:`read_vectors` and :func:`write_vectors`.

========  =============================================  ==========================
intent    vectors                                        who writes it
========  =============================================  ==========================
1007      displacement, mm, **LPS**; 5D (X, Y, Z, 1, 3)  ITK, ANTs, greedy, uresnet
1006      displacement, mm, **RAS**; 5D                  FreeSurfer (surfa)
2006      FSL's scaled voxels, 4D (X, Y, Z, 3)           FNIRT, uresnet
0         not said; Learn2Reg's voxels are 4D            Learn2Reg
========  =============================================  ==========================
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from uresnet.core.files import write_bytes
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import DisplacementField, Transform, displacement_on
from uresnet.transform_files.formats.pair import TransformPair, Writers

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_INTENT, RAS_INTENT, FSL_INTENT, NO_INTENT = 1007, 1006, 2006, 0
_MEANINGS = {
    NO_INTENT: "no intent code, so it does not say what its vectors mean",
    RAS_INTENT: "intent 1006 (RAS millimetres, as FreeSurfer)",
    FSL_INTENT: "intent 2006 (an FSL warp)",
} | {
    code: f"intent {code} (FSL spline coefficients; turn them into a field with fnirtfileutils)"
    for code in (2007, 2008, 2009, 2016)
}
DAMAGE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, KeyError, zlib.error)
"""What nibabel raises on damaged files, and what is below it."""

NIFTI_SUFFIXES = (".nii.gz", ".nii")


def nifti_files(pair: TransformPair) -> Writers:
    """``warp.nii.gz`` and ``inverse_warp.nii.gz``."""
    out: Writers = {"warp.nii.gz": partial(write_warp, pair.forward, pair.grid("fixed"))}
    if pair.backward is not None:
        out["inverse_warp.nii.gz"] = partial(write_warp, pair.backward, pair.grid("moving"))
    return out


@dataclass(frozen=True, eq=False)
class VectorVolume:
    """``values`` (I, J, K, 3) float32 as they stand in the file, the grid that the header states, and the intent."""

    values: np.ndarray
    voxel_to_world: np.ndarray
    intent: int
    path: Path

    @property
    def meaning(self) -> str:
        """The intent in words."""
        return _MEANINGS.get(self.intent, f"intent code {self.intent}")

    @property
    def grid(self) -> Grid:
        """The voxels of the file. ``UserError`` where its matrix is singular."""
        return _grid_of(self.path, self.values.shape, self.voxel_to_world)


def read_vectors(path: Path) -> VectorVolume:
    """Read (X, Y, Z, 1, 3) or (X, Y, Z, 3); any other shape, damage and values that are not finite: ``UserError``."""
    try:
        image: Any = nib.load(path)
        shape = tuple(image.shape)
        if shape[3:] not in ((1, 3), (3,)):
            raise UserError(
                f"{path} is not a dense warp: its shape is {shape} instead of (X, Y, Z, 1, 3) or (X, Y, Z, 3)."
            )
        intent = int(image.header["intent_code"]) if "intent_code" in image.header else NO_INTENT
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(*shape[:3], 3)
    except DAMAGE as error:
        raise UserError(f"{path} cannot be read as a warp; it is damaged, truncated or of another kind.") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; write the warp again.")
    return VectorVolume(values, np.asarray(image.affine, dtype=np.float64), intent, path)


def write_vectors(values: np.ndarray, grid: Grid, path: str | Path, intent: int, five: bool = True) -> None:
    """Write (I, J, K, 3) as float32 NIfTI in mm, qform = sform = ``grid``; 5D, or 4D without ``five``."""
    path = Path(path)
    if not path.name.endswith(NIFTI_SUFFIXES):
        raise UserError(f"{path}: a dense warp is written as .nii.gz; give the file that ending.")
    values = np.ascontiguousarray(values, dtype=np.float32)
    image: Any = nib.Nifti1Image(values[:, :, :, None] if five else values, grid.voxel_to_world)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_qform(grid.voxel_to_world, code=1)
    image.set_sform(grid.voxel_to_world, code=1)
    content = image.to_bytes()
    write_bytes(igzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content, path)


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


def field_of(path: Path, ras: np.ndarray, voxel_to_world: np.ndarray) -> DisplacementField:
    """The field of RAS displacements (I, J, K, 3), mm. ``UserError`` naming ``path`` where the matrix is singular."""
    grid = _grid_of(path, ras.shape, voxel_to_world)
    return DisplacementField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(ras, -1, 0), dtype=np.float32)), grid)


def _grid_of(path: Path, shape: tuple[int, ...], voxel_to_world: np.ndarray) -> Grid:
    try:
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), voxel_to_world)
    except ValueError as error:
        raise UserError(f"{path} has a singular geometry; write the transform again.") from error
