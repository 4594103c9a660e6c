"""What the solver does at each resolution, and how much the parts of its loss weigh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """``iterations`` at voxels of ``spacing`` mm (a power of 2), with steps of at most about ``rate`` voxels.

    ``force_sigma`` and ``velocity_sigma`` are the standard deviations, voxels, of the Gaussians that smooth the force
    and, in every step, the velocity. ``divergence_steps`` more steps of diffusion then smooth the velocity's divergence
    alone (:func:`uresnet.solver.descent.diffuse_divergence`).
    """

    spacing: int
    iterations: int
    rate: float = 0.4
    force_sigma: float = 1.0
    velocity_sigma: float = 0.8
    divergence_steps: int = 0


@dataclass(frozen=True)
class SolverSettings:
    """``levels``, coarse to fine, and the weights of the loss.

    ``structures`` weighs the Dice distance of the structures, ``correlation`` that of the intensities (in cubes of
    ``window`` voxels). ``residual``, if any, is the level of the residual velocity, at 1 mm; the last of ``levels``
    must then be at 2 mm. ``smoothing`` of the displacement is the weight that either neighbour along an axis gets, and
    none at 0: curvature from one voxel to the next costs invertibility. ``shifted_pass`` is for the network
    that finds the structures (:meth:`uresnet.model.segmenter.Segmenter.forward`). ``stored_mm`` is the voxel size of
    the displacement: the more it bends, the finer its voxels must be for its inverse.
    """

    levels: tuple[Level, ...]
    structures: float = 1.0
    correlation: float = 2.0
    window: int = 5
    residual: Level | None = None
    smoothing: float = 0.0
    shifted_pass: bool = False
    stored_mm: float = 0.7


DEFAULT_SETTINGS = SolverSettings(
    (
        Level(8, 10, 0.5, velocity_sigma=0.75),
        Level(4, 12, 0.6, velocity_sigma=0.75, divergence_steps=1),
        Level(2, 8, 0.9, velocity_sigma=0.75, divergence_steps=2),
    ),
    residual=Level(1, 2, 1.0, velocity_sigma=0.8, divergence_steps=4),
    smoothing=0.25,
)
"""The settings of a registration."""

REFINED_SETTINGS = SolverSettings(
    DEFAULT_SETTINGS.levels,
    residual=Level(1, 8, 0.7, velocity_sigma=0.8, divergence_steps=4),
    shifted_pass=True,
    stored_mm=0.6,
)
"""The settings of ``--refine``: a shifted pass, more iterations at 1 mm, and a displacement that is not smoothed."""
