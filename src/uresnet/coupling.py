"""The paper's idea in one place: what a network says of two conformed images becomes one map between their worlds and a
segmentation of each.

Networks of different kinds couple the two differently; each kind has one entry in ``COUPLINGS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from uresnet.checkpoint import CHRISTODOULIDIS, PAIR, TRANSLATION, Model
from uresnet.image import ProbabilityMap
from uresnet.model.network import UResNetOutput
from uresnet.preprocess import Conformed
from uresnet.spaces import Grid
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    GridConvention,
    Transform,
    closest_rigid,
    integrate_spatial_gradients,
)
from uresnet.transform.affine import about

Freedom = Literal["joint", "affine", "rigid", "deformable"]
FREEDOMS: tuple[Freedom, ...] = get_args(Freedom)
"""What may move: everything, only the affine, only its rigid part, only the deformation."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """A map and two segmentations: ``transform`` sends fixed world mm to moving world mm; probabilities lie on the
    conformed grids, None from a network that does not segment."""

    transform: Composite
    moving_probabilities: ProbabilityMap | None
    fixed_probabilities: ProbabilityMap | None


@dataclass(frozen=True)
class Coupler:
    """How networks of one kind are used: ``couple`` a pair, ``segment`` one image."""

    couple: Callable[[Model, Conformed, Conformed, Freedom], Coupling]
    segment: Callable[[Model, Conformed], ProbabilityMap]


def couple(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom = "joint") -> Coupling:
    """Run the network on a pair conformed to grids of one shape."""
    with torch.inference_mode():
        return COUPLINGS[model.card.kind].couple(model, moving, fixed, freedom)


def segment_conformed(model: Model, image: Conformed) -> ProbabilityMap:
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


COUPLINGS: dict[str, Coupler] = {
    PAIR: Coupler(_couple_pair, _segment_as_pair),
    CHRISTODOULIDIS: Coupler(_couple_pair, _segment_as_pair),
    TRANSLATION: Coupler(_couple_centres, _segment_as_pair),
}
"""By the ``kind`` on the model's card; the same kinds as ``checkpoint.NETWORKS``."""
