"""Two images with known structures to one deformation: tensors in, velocities out.

The unknown is a stationary velocity in a mid-space, half-way between both images. :mod:`~uresnet.solver.symmetric`
finds it and :mod:`~uresnet.solver.exponentials` turns it into the deformation and its inverse.
"""

from uresnet.solver.affine import affine_between
from uresnet.solver.exponentials import exponentials
from uresnet.solver.images import SolverImage
from uresnet.solver.settings import DEFAULT_SETTINGS, REFINED_SETTINGS, Level, SolverSettings
from uresnet.solver.symmetric import brain_between, residual_velocity, velocity_between

__all__ = [
    "DEFAULT_SETTINGS",
    "REFINED_SETTINGS",
    "Level",
    "SolverImage",
    "SolverSettings",
    "affine_between",
    "brain_between",
    "exponentials",
    "residual_velocity",
    "velocity_between",
]
