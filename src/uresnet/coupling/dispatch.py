"""The paper's idea in one place: what a network says of two conformed images becomes one map between their worlds and a
segmentation of each.

Networks of different kinds couple the two differently; each kind has one entry in ``COUPLINGS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Freedom
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap, ProbabilityMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError
from uresnet.model.checkpoint import CHRISTODOULIDIS, MIDSPACE, PAIR, TRANSLATION, Model
from uresnet.model.network import UResNetOutput
from uresnet.preprocess import Conformed
from uresnet.solver.symmetric import (
    REFINED,
    SWIFT,
    Effort,
    Side,
    affine_between,
    brain_between,
    displacements,
    finest_velocity,
    velocity_between,
)
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    GridConvention,
    Transform,
    closest_rigid,
    integrate_spatial_gradients,
)
from uresnet.transform.affine import about, matrix_exponential, matrix_logarithm

FREEDOMS: tuple[Freedom, ...] = get_args(Freedom)
"""What may move: everything, only the affine, only its rigid part, only the deformation."""


Segmented = ProbabilityMap | LabelMap
"""Probabilities of classes, or the most probable class of every voxel of 1 mm, on a conformed grid."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """A map and two segmentations: ``transform`` sends fixed world mm to moving world mm; the segmentations lie on the
    conformed grids, None from a network that does not segment."""

    transform: Composite
    moving_segmented: Segmented | None
    fixed_segmented: Segmented | None


@dataclass(frozen=True)
class Coupler:
    """How networks of one kind are used: ``couple`` a pair, ``segment`` one image."""

    couple: Callable[[Model, Conformed, Conformed, Freedom], Coupling]
    segment: Callable[[Model, Conformed], Segmented]
    refine: Callable[[Model, Conformed, Conformed, Freedom], Coupling] | None = None


def couple(
    model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom = "joint", refine: bool = False
) -> Coupling:
    """Run the network on a pair conformed to grids of one shape. ``refine`` takes longer and comes closer.

    Raises :class:`UserError` when a model that predicts its deformation in one go is to be refined.
    """
    if refine:
        check_refinable(model)
    coupler = COUPLINGS[model.card.kind]
    chosen = coupler.refine if refine and coupler.refine else coupler.couple
    with torch.inference_mode():
        return chosen(model, moving, fixed, freedom)


def check_refinable(model: Model) -> None:
    """Raises :class:`UserError` for a model that predicts its deformation in one go."""
    if COUPLINGS[model.card.kind].refine is None:
        raise UserError(f"The model {model.name} has nothing to refine; leave --refine out or choose another model.")


def segment_conformed(model: Model, image: Conformed) -> Segmented:
    """Segment one image. Raises ``ValueError`` for a network without segmentation."""
    if model.scheme is None:
        raise ValueError(f"{model.name} does not segment")
    with torch.inference_mode():
        return COUPLINGS[model.card.kind].segment(model, image)


# -- the paper's network: a pair in, the moving image's segmentation out -----------------------------------------------


def _couple_pair(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom) -> Coupling:
    output = _forward(model, moving, fixed)
    convention = GridConvention(model.card.network["convention"])
    transform = pair_transform(output, moving.grid, fixed.grid, freedom, convention)
    # The network segments its first image only; the fixed one takes its turn there.
    swapped = _forward(model, fixed, moving) if model.scheme is not None else output
    return Coupling(transform, _probabilities(output, moving.grid), _probabilities(swapped, fixed.grid))


def _segment_as_pair(model: Model, image: Conformed) -> ProbabilityMap:
    """The image with itself: the network wants a pair, and no other brain is as much like this one."""
    found = _probabilities(_forward(model, image, image), image.grid)
    assert found is not None
    return found


def pair_transform(
    output: UResNetOutput,
    moving: Grid,
    fixed: Grid,
    freedom: Freedom = "joint",
    convention: GridConvention = GridConvention.IDENTITY_AT_ONE,
) -> Composite:
    """Fixed world → moving world from the voxel map D = A ∘ G of batch entry 0 (paper Eq. 1–2).

    With W the grids' voxel-to-world matrices: T = [W_moving A W_fixed⁻¹] ∘ [W_fixed G W_fixed⁻¹], a displacement field
    on the fixed network grid, then an affine of the world. "deformable" leaves A out, "affine" leaves G out, and
    "rigid" also takes the rotation nearest to the affine, about the middle of the fixed grid.
    """
    parts: list[Transform] = []
    if freedom in ("joint", "deformable"):
        voxel_map = integrate_spatial_gradients(output.spatial_gradients[:1], convention)[0]
        field = DisplacementField.from_voxel_map(voxel_map.cpu(), fixed)
        parts.append(DisplacementField(field.displacement, fixed, domain=fixed, codomain=fixed))
    voxel_affine = np.eye(4) if freedom == "deformable" else _voxel_affine(output.affine, fixed, convention)
    matrix = moving.voxel_to_world @ voxel_affine @ fixed.world_to_voxel
    if freedom == "rigid":
        matrix = closest_rigid(matrix, tuple(fixed.centre_world))
    parts.append(Affine(matrix, domain=fixed, codomain=moving))
    return Composite(parts)


def _voxel_affine(affine: Tensor, grid: Grid, convention: GridConvention) -> np.ndarray:
    """The predicted affine (B, 3, 4) of batch entry 0 as a (4, 4) of voxel indices, whatever point it turns about."""
    predicted = affine[0].double().cpu().numpy()
    return about(predicted[:, :3], predicted[:, 3], convention.affine_centre(grid.shape))


def _forward(model: Model, moving: Conformed, fixed: Conformed) -> UResNetOutput:
    return model.network(moving.tensor.to(model.device), fixed.tensor.to(model.device))


def _probabilities(output: UResNetOutput, grid: Grid) -> ProbabilityMap | None:
    if output.segmentation_logits is None:
        return None
    return ProbabilityMap(output.segmentation_logits[0].float().softmax(dim=0).cpu(), grid)


# -- the paper's rigid baseline (§4.1): centre of mass onto centre of mass, which conforming has done already ----------


def _couple_centres(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom) -> Coupling:
    """One voxel index, two worlds: the same translation whatever may move."""
    matrix = moving.grid.voxel_to_world @ fixed.grid.world_to_voxel
    return Coupling(Composite([Affine(matrix, domain=fixed.grid, codomain=moving.grid)]), None, None)


# -- the flagship: each image segmented on its own, then both brought half-way ----------------------------------------


def _meet(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom, effort: Effort = SWIFT) -> Coupling:
    """Fixed world → mid-space → deformed mid-space → moving world, each affine half the way."""
    (one, moving_labels), (other, fixed_labels) = (_encode(model, image, effort.twice) for image in (moving, fixed))
    affine_log = _affine_log(one, other, freedom)
    there, back = (_half_way(affine_log, image.grid, sign) for image, sign in ((fixed, 1), (moving, -1)))
    middle = Grid.centred(fixed.grid.shape, (1, 1, 1), ("R", "A", "S"), (0, 0, 0))
    parts: list[Transform] = [Affine(there, domain=fixed.grid, codomain=middle)]
    if freedom in ("joint", "deformable"):
        velocity = velocity_between(one, other, affine_log, effort)
        spacing = effort.levels[-1].spacing
        brain = brain_between(one, other, affine_log, velocity, spacing)
        finest = finest_velocity(one, other, affine_log, velocity, effort, brain) if effort.finest else None
        stored_mm = effort.stored_mm
        forward, backward = displacements(velocity, spacing, middle.shape, brain, finest, effort.evened, stored_mm)
        lattice = Grid.centred(tuple(forward.shape[1:]), (stored_mm,) * 3, ("R", "A", "S"), (0, 0, 0))
        inverse = DisplacementField(backward.cpu(), lattice, domain=middle, codomain=middle)
        parts.append(DisplacementField(forward.cpu(), lattice, inverse, domain=middle, codomain=middle))
    parts.append(Affine(np.linalg.inv(back), domain=middle, codomain=moving.grid))
    return Coupling(Composite(parts), moving_labels, fixed_labels)


def _encode(model: Model, image: Conformed, twice: bool) -> tuple[Side, LabelMap]:
    tensor = image.tensor.to(model.device)
    classes, probabilities = model.network(tensor, twice)
    groups = _merged_sides(_scheme_of(model)).to(model.device)
    return Side(probabilities, tensor, groups), LabelMap(classes.cpu(), image.grid)


def _segment_alone(model: Model, image: Conformed) -> LabelMap:
    return _encode(model, image, twice=True)[1]


def _affine_log(moving: Side, fixed: Side, freedom: Freedom) -> np.ndarray:
    """Logarithm of the affine from fixed to moving about the middles of their grids; zero when it may not move."""
    if freedom == "deformable":
        return np.zeros((4, 4))
    try:
        found = affine_between(moving.probabilities, fixed.probabilities)
    except ValueError as error:
        raise UserError(
            f"The brains cannot be aligned: {error}. Look at the segmentation of each with 'uresnet segment', and "
            "check that both headers say rightly which way is left, front and up."
        ) from error
    return matrix_logarithm(closest_rigid(matrix_exponential(found))) if freedom == "rigid" else found


def _half_way(affine_log: np.ndarray, grid: Grid, sign: int) -> np.ndarray:
    """(4, 4): an image's world to the mid-space, whose origin the middle of the grid becomes.

    The conformed grid's voxels are the mid-space's millimetres: all models of this kind see voxels of 1 mm.
    """
    to_middle = np.eye(4)
    to_middle[:3, 3] = -(np.array(grid.shape) - 1) / 2
    return matrix_exponential(sign * affine_log / 2) @ to_middle @ grid.world_to_voxel


def _merged_sides(scheme: LabelScheme) -> Tensor:
    """(C,): a number for every class, shared by the two sides of a structure; 0 is the background."""
    lower = [min(c, other) for c, other in enumerate(scheme.mirrored)]
    order = {c: n for n, c in enumerate(sorted(set(lower)))}
    return torch.tensor([order[c] for c in lower])


def _scheme_of(model: Model) -> LabelScheme:
    """The scheme of a model that segments."""
    assert model.scheme is not None
    return model.scheme


COUPLINGS: dict[str, Coupler] = {
    MIDSPACE: Coupler(_meet, _segment_alone, partial(_meet, effort=REFINED)),
    PAIR: Coupler(_couple_pair, _segment_as_pair),
    CHRISTODOULIDIS: Coupler(_couple_pair, _segment_as_pair),
    TRANSLATION: Coupler(_couple_centres, _segment_as_pair),
}
"""By the ``kind`` on the model's card; the same kinds as ``checkpoint.NETWORKS``."""
