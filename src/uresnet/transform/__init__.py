"""Maps from the fixed world to the moving world, mm: affines, dense fields and their sequences. No files."""

from uresnet.transform.affine import Affine, about, closest_rigid, matrix_exponential, matrix_logarithm
from uresnet.transform.base import Transform
from uresnet.transform.composite import Composite, displacement_on, map_grid
from uresnet.transform.deformation import (
    DisplacementField,
    GridConvention,
    apply_voxel_affine,
    compose_displacements,
    integrate_spatial_gradients,
    integrate_velocity,
    invert_displacement,
    lattice_determinant,
)
from uresnet.transform.inversion import InverseResidual, InversionSettings, half_difference
from uresnet.transform.measures import (
    InverseError,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    log_jacobian_std,
)
from uresnet.transform.resampling import resample

__all__ = [
    "Affine",
    "Composite",
    "DisplacementField",
    "GridConvention",
    "InverseError",
    "InverseResidual",
    "InversionSettings",
    "Transform",
    "about",
    "apply_voxel_affine",
    "closest_rigid",
    "compose_displacements",
    "displacement_on",
    "folding_fraction",
    "half_difference",
    "integrate_spatial_gradients",
    "integrate_velocity",
    "inverse_error",
    "invert_displacement",
    "jacobian_determinant",
    "lattice_determinant",
    "log_jacobian_std",
    "map_grid",
    "matrix_exponential",
    "matrix_logarithm",
    "resample",
]
