"""Dense warps in NIfTI: a vector at every voxel. Their intent code says what the vectors mean.

========  =============================================  ==========================
intent    vectors                                        who writes it
========  =============================================  ==========================
1007      displacement, mm, **LPS**; 5D (X, Y, Z, 1, 3)  ITK, ANTs, greedy, uresnet
1006      displacement, mm, **RAS**; 5D                  FreeSurfer (surfa)
2006      FSL's scaled voxels, 4D (X, Y, Z, 3)           FNIRT, uresnet
0         nobody says; Learn2Reg's voxels are 4D         Learn2Reg
========  =============================================  ==========================
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from uresnet.core.files import written_whole
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform.base import Transform
from uresnet.transform.composite import displacement_on
from uresnet.transform.deformation import DisplacementField

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_INTENT, RAS_INTENT, FSL_INTENT, NO_INTENT = 1007, 1006, 2006, 0
_MEANINGS = {
    NO_INTENT: "no intent code, so it does not say what its vectors mean",
    RAS_INTENT: "intent 1006 (RAS millimetres, as FreeSurfer)",
    FSL_INTENT: "intent 2006 (an FSL warp)",
    2007: "intent 2007 (FSL spline coefficients; turn them into a field with fnirtfileutils)",
    2008: "intent 2008 (FSL spline coefficients; turn them into a field with fnirtfileutils)",
    2009: "intent 2009 (FSL spline coefficients; turn them into a field with fnirtfileutils)",
    2016: "intent 2016 (FSL spline coefficients; turn them into a field with fnirtfileutils)",
}
SUFFIXES = (".nii.gz", ".nii")


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
                f"{path} is not a dense warp: its shape is {shape} instead of (X, Y, Z, 1, 3) or (X, Y, Z, 3)"
            )
        intent = int(image.header["intent_code"]) if "intent_code" in image.header else NO_INTENT
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(*shape[:3], 3)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a warp; it is damaged, truncated or of another kind") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds values that are not finite; write the warp again")
    return VectorVolume(values, np.asarray(image.affine, dtype=np.float64), intent, path)


def write_vectors(values: np.ndarray, grid: Grid, path: str | Path, intent: int, five: bool = True) -> None:
    """Write (I, J, K, 3) as float32 NIfTI in mm, qform = sform = ``grid``; 5D, or 4D without ``five``."""
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: a dense warp is written as .nii.gz; give the file that ending")
    values = np.ascontiguousarray(values, dtype=np.float32)
    image = nib.Nifti1Image(values[:, :, :, None] if five else values, grid.voxel_to_world)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_qform(grid.voxel_to_world, code=1)
    image.set_sform(grid.voxel_to_world, code=1)
    with written_whole(path) as beside:
        content = image.to_bytes()
        beside.write_bytes(igzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)


def write_warp(transform: Transform, grid: Grid, path: str | Path) -> None:
    """Bake a transform into a dense warp NIfTI on ``grid`` (5D, intent 1007, mm, LPS), as ANTs and greedy want it.

    Readers take the displacement as zero outside ``grid``, affine part included: prefer an ITK composite.
    """
    write_vectors(ras_vectors(transform, grid) * LPS.diagonal()[:3], grid, path, LPS_INTENT)


def ras_vectors(transform: Transform, grid: Grid) -> np.ndarray:
    """(I, J, K, 3) float32: T(x) − x, RAS mm, at every voxel of ``grid``; a field's own values on its own grid."""
    own = len(transform.parts) == 1 and isinstance(transform.parts[0], DisplacementField)
    field = transform.parts[0] if own and transform.parts[0].grid.same_as(grid, 1e-9) else None  # type: ignore[attr-defined]
    if field is None:
        field = displacement_on(transform, grid)
    assert isinstance(field, DisplacementField)
    return field.displacement.detach().cpu().permute(1, 2, 3, 0).numpy()


def field_of(path: Path, ras: np.ndarray, voxel_to_world: np.ndarray) -> DisplacementField:
    """The field of RAS displacements (I, J, K, 3), mm. ``UserError`` naming ``path`` where the matrix is singular."""
    grid = _grid_of(path, ras.shape, voxel_to_world)
    return DisplacementField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(ras, -1, 0), dtype=np.float32)), grid)


def _grid_of(path: Path, shape: tuple[int, ...], voxel_to_world: np.ndarray) -> Grid:
    try:
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), voxel_to_world)
    except ValueError as error:
        raise UserError(f"{path} has a singular geometry; write the transform again") from error
