"""The paper's rigid baseline (§4.1): centre of mass onto centre of mass."""

from __future__ import annotations

from uresnet.core.choices import Freedom
from uresnet.coupling.result import Coupling
from uresnet.model.checkpoint import Model
from uresnet.preprocess import Conformed
from uresnet.transform import Affine, Composite


def couple_centres(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom) -> Coupling:
    """Every voxel onto the voxel of the same index, because conforming has put both centres of mass at one index.

    The translation is the same whatever ``freedom`` allows.
    """
    matrix = moving.grid.voxel_to_world @ fixed.grid.world_to_voxel
    return Coupling(Composite([Affine(matrix, domain=fixed.grid, codomain=moving.grid)]), None, None)
