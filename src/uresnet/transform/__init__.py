"""Maps from the fixed world to the moving world, mm: affines, dense fields, their sequences and files."""

from uresnet.transform.affine import Affine, closest_rigid
from uresnet.transform.base import Transform
from uresnet.transform.composite import (
    Composite,
    InverseError,
    displacement_on,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    log_jacobian_std,
    map_grid,
    resample,
)
from uresnet.transform.deformation import (
    DisplacementField,
    GridConvention,
    apply_voxel_affine,
    integrate_spatial_gradients,
    integrate_velocity,
    invert_displacement,
)
from uresnet.transform.inversion import InverseResidual, InversionSettings

__all__ = [
    "Affine",
    "Composite",
    "DisplacementField",
    "GridConvention",
    "InverseError",
    "InverseResidual",
    "InversionSettings",
    "Transform",
    "apply_voxel_affine",
    "closest_rigid",
    "displacement_on",
    "folding_fraction",
    "integrate_spatial_gradients",
    "integrate_velocity",
    "inverse_error",
    "invert_displacement",
    "jacobian_determinant",
    "log_jacobian_std",
    "map_grid",
    "resample",
]
