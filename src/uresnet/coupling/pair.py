"""The paper's network: a pair in, a deformation, an affine and the moving image's segmentation out (Eq. 1–3)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from uresnet.core.choices import Freedom
from uresnet.core.grid import Grid
from uresnet.core.image import ProbabilityMap
from uresnet.core.labels import ABNORMAL, LabelScheme
from uresnet.coupling.abnormal import FEWEST_ML
from uresnet.coupling.result import Coupling, Structures
from uresnet.model.checkpoint import Model
from uresnet.model.network import UResNetOutput
from uresnet.preprocess import Conformed
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    GridConvention,
    Transform,
    about,
    closest_rigid,
    integrate_spatial_gradients,
)


def couple_pair(model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom) -> Coupling:
    """The map that the network predicts; it segments its first image only, so each image takes a turn there."""
    output = _forward(model, moving, fixed)
    convention = GridConvention(model.card.network["convention"])
    transform = pair_transform(output, moving.grid, fixed.grid, freedom, convention)
    swapped = _forward(model, fixed, moving) if model.scheme is not None else output
    segmented = _probabilities(output, moving.grid, model.scheme), _probabilities(swapped, fixed.grid, model.scheme)
    return Coupling(transform, *segmented, model.scheme)


def segment_as_pair(model: Model, image: Conformed) -> Structures:
    """The image paired with itself: the network needs a pair, and no other brain is as similar."""
    found = _probabilities(_forward(model, image, image), image.grid, model.scheme)
    assert found is not None and model.scheme is not None
    return Structures(found, model.scheme)


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
    output: UResNetOutput = model.network(moving.tensor.to(model.device), fixed.tensor.to(model.device))
    return output


def _probabilities(output: UResNetOutput, grid: Grid, scheme: LabelScheme | None) -> ProbabilityMap | None:
    """Of the classes, background first. What looks abnormal in less than ``FEWEST_ML`` is healthy: the next class."""
    if output.segmentation_logits is None or scheme is None:
        return None
    logits = output.segmentation_logits[0].float().cpu()
    abnormal = scheme.classes_of(ABNORMAL)
    if abnormal:
        found = torch.isin(logits.argmax(dim=0), torch.tensor(abnormal)).sum()
        if float(found) * grid.voxel_volume < 1000 * FEWEST_ML:
            logits = logits.index_fill(0, torch.tensor(abnormal), -math.inf)
    return ProbabilityMap(logits.softmax(dim=0), grid)
