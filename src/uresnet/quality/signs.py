"""What can be measured of a registration without knowing the truth: the signs that the verdict is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, LabelScheme, mirrored_id
from uresnet.core.sampling import sample
from uresnet.measures.overlap import dice_per_class
from uresnet.measures.volumes import structure_volumes
from uresnet.quality.distribution import Features, features_of
from uresnet.quality.handedness import handedness
from uresnet.results.registration import Results
from uresnet.transform import Affine, Transform, map_grid

COARSE_MM = 2.0
"""Images are compared on a grid about this fine: an eighth of the voxels tells as much."""


@dataclass(frozen=True)
class ImageSigns:
    """How one image compares with the brains that networks were trained on.

    ``brain_ml`` is the brain's volume; ``width`` and ``height`` are the extents right–left and foot–head of its box as
    a share of the front–back one; ``distance`` and ``deep_over_rim`` are those of
    `~uresnet.quality.distribution.Features`: how far shape and intensities lie from those of the training images,
    and how much brighter the brain is deep inside than below its surface; ``handedness`` is how far its asymmetry is
    the usual one, negative when mirrored, None for a symmetric brain.

    From the segmentation, None without: ``white_over_grey`` is how much brighter white matter is than cortex,
    ``grey_over_csf`` cortex than ventricle, in standard deviations of the brain; ``labelled`` is the structures'
    volume as a share of the brain's; ``missing`` is how many structures of the scheme were not found at all;
    ``lopsided`` is the difference between all left and all right structures, as a share of their mean, None where the
    scheme does not tell sides.
    """

    brain_ml: float
    width: float
    height: float
    distance: float
    deep_over_rim: float | None
    handedness: float | None
    white_over_grey: float | None
    grey_over_csf: float | None
    labelled: float | None = None
    missing: int | None = None
    lopsided: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For ``run.json``: plain numbers, rounded to what they are worth."""
        return _rounded(asdict(self))


@dataclass(frozen=True)
class Signs:
    """The signs of a pair. ``dice`` by structure and ``mean_dice``: warped against predicted fixed segmentation;
    ``overlap``: Dice of the warped moving brain and the fixed brain; ``correlation``: Pearson's, of the warped and the
    fixed image where both have brain; ``crossed``: the share of the warped image's sided structures that lands on the
    fixed image's structures of the other side, None where the scheme does not tell sides. ``scheme`` and ``model``
    name what segmented, because some bounds depend on it."""

    mean_dice: float | None
    dice: dict[str, float]
    overlap: float
    correlation: float
    folding_fraction: float
    inverse_mean_mm: float
    inverse_max_mm: float
    moving: ImageSigns
    fixed: ImageSigns
    crossed: float | None = None
    scheme: str = ""
    model: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``run.json``: plain numbers, rounded to what they are worth."""
        return _rounded(asdict(self))


@dataclass(frozen=True, eq=False)
class Look:
    """What can be said of an image and its brain before its structures are known."""

    features: Features
    handedness: float | None


def look_at(image: Image, brain: LabelMap) -> Look:
    """The look of an image; ``brain`` lies on its grid."""
    return Look(brain_features(image, brain), handedness(image, brain))


def measure_signs(results: Results, looks: Sequence[Look] | None = None) -> Signs:
    """Measure a pair; ``looks`` of the moving and the fixed image where they have been taken. Raises ``ValueError``
    unless both images and both brains are there: while it is registered."""
    if results.moving is None or results.fixed is None or results.moving_brain is None or results.fixed_brain is None:
        raise ValueError("signs are measured on two images with their brains")
    overlap, correlation = _agreement(results)
    dice = structure_dice(results)
    finite = [value for value in dice.values() if np.isfinite(value)]
    said = results.record["measures"]
    seen = looks or (look_at(results.moving, results.moving_brain), look_at(results.fixed, results.fixed_brain))
    moving = image_signs(results.moving, results.moving_brain, results.moving_segmentation, results.scheme, seen[0])
    fixed = image_signs(results.fixed, results.fixed_brain, results.fixed_segmentation, results.scheme, seen[1])
    return Signs(
        mean_dice=float(np.mean(finite)) if finite else None,
        dice=dice,
        overlap=overlap,
        correlation=correlation,
        folding_fraction=float(said["folding_fraction"]),
        inverse_mean_mm=float(said["inverse_residual_mm"]["mean"]),
        inverse_max_mm=float(said["inverse_residual_mm"]["max"]),
        moving=moving,
        fixed=fixed,
        crossed=crossed_share(results.warped_segmentation, results.fixed_segmentation, results.scheme),
        scheme=results.scheme.name if results.scheme is not None else "",
        model=str(results.record["model"]["name"]),
    )


def structure_dice(results: Results) -> dict[str, float]:
    """Dice of the warped and the predicted fixed segmentation by structure's name; NaN where neither has it."""
    warped, fixed, scheme = results.warped_segmentation, results.fixed_segmentation, results.scheme
    if warped is None or fixed is None or scheme is None:
        return {}
    classes = [_classes(one, scheme) for one in (warped, fixed)]
    dice = dice_per_class(classes[0], classes[1], scheme.number_of_classes)
    return {one.name: float(value) for one, value in zip(scheme.classes, dice, strict=True)}


def image_signs(
    image: Image, brain: LabelMap, labels: LabelMap | None, scheme: LabelScheme | None, look: Look | None = None
) -> ImageSigns:
    """The signs of one image; ``brain`` and ``labels`` lie on its grid; its ``look`` where it has been taken."""
    look = look or look_at(image, brain)
    features = look.features
    signs = ImageSigns(
        brain_ml=features.brain_ml,
        width=float(features.shape[1]),
        height=float(features.shape[2]),
        distance=features.distance,
        deep_over_rim=features.deep_over_rim,
        handedness=look.handedness,
        white_over_grey=None,
        grey_over_csf=None,
    )
    if labels is None or scheme is None:
        return signs
    steps = _steps(image.grid, brain)
    values, inside = (_sparse(one, steps) for one in (image.data, brain.mask))
    spread = float(values[inside].double().std(correction=0))
    white, grey = _contrasts(values, _sparse(labels.data, steps), scheme, spread)
    volumes = structure_volumes(labels, scheme)
    return replace(
        signs,
        white_over_grey=white,
        grey_over_csf=grey,
        labelled=sum(volumes.values()) / 1000 / features.brain_ml,
        missing=sum(volume == 0 for volume in volumes.values()),
        lopsided=_lopsided(volumes, scheme),
    )


def brain_features(image: Image, brain: LabelMap) -> Features:
    """What places an image among the training images; ``brain`` lies on its grid."""
    mask, steps = brain.mask.cpu(), _steps(image.grid, brain)
    values, inside = (_sparse(one, steps).numpy() for one in (image.data, mask))
    extents, volume = _extents_mm(mask, image.grid), float(mask.sum()) * image.grid.voxel_volume / 1000
    shape = (volume, float(extents[0] / extents[1]), float(extents[2] / extents[1]))
    return features_of(values, inside, image.grid.zooms * steps, shape)


def crossed_share(warped: LabelMap | None, fixed: LabelMap | None, scheme: LabelScheme | None) -> float | None:
    """Of the warped image's sided structures that land on any sided structure of the fixed image, the share that lands
    on the other side; None where a scheme tells no sides or nothing meets."""
    if warped is None or fixed is None or scheme is None or not scheme.sided:
        return None
    sides = [0, *(_side(one.id) if mirrored_id(one.id) in scheme.ids else 0 for one in scheme.classes)]
    steps = _steps(fixed.grid)
    one, other = (torch.tensor(sides)[_classes(labels, scheme, steps).long()] for labels in (warped, fixed))
    both = (one > 0) & (other > 0)
    return float((one != other)[both].double().mean()) if bool(both.any()) else None


# -- steps -------------------------------------------------------------------------------------------------------------


def _agreement(results: Results) -> tuple[float, float]:
    """(Dice of the brains, correlation of the images where both are brain) after the transform, on a coarse grid."""
    assert results.moving is not None and results.fixed is not None
    assert results.moving_brain is not None and results.fixed_brain is not None
    factor = np.maximum(1.0, np.round(COARSE_MM / results.fixed.grid.zooms))
    grid = results.fixed.grid.rescaled(factor.tolist())
    moved, moved_brain = _read(results.moving, results.moving_brain, results.transform, grid)
    fixed, fixed_brain = _read(results.fixed, results.fixed_brain, Affine.identity(), grid)
    both = moved_brain & fixed_brain
    overlap = 2 * int(both.sum()) / max(1, int(moved_brain.sum()) + int(fixed_brain.sum()))
    a, b = moved[both].double(), fixed[both].double()
    if len(a) < 2 or float(a.std()) == 0 or float(b.std()) == 0:
        return overlap, 0.0
    return overlap, float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def _read(image: Image, brain: LabelMap, transform: Transform, grid: Grid) -> tuple[Tensor, Tensor]:
    where = map_grid(transform, grid, image.grid.world_to_voxel, device="cpu")
    both = torch.stack([image.data.cpu(), brain.mask.cpu().float()])[None]
    values, inside = sample(both, where)[0]
    return values, inside > 0.5


def _extents_mm(mask: Tensor, grid: Grid) -> np.ndarray:
    """Extents of the brain along the world's axes, between its 1st and 99th percentile, mm, (3,)."""
    voxels = mask.nonzero()
    voxels = voxels[:: max(1, len(voxels) // 50_000)]
    world = grid.points_to_world(voxels.numpy())
    low, high = np.percentile(world, (1, 99), axis=0)
    return np.maximum(high - low, 1e-3)


def _contrasts(values: Tensor, labels: Tensor, scheme: LabelScheme, spread: float) -> tuple[float | None, float | None]:
    """(white matter − cortex, cortex − lateral ventricle), medians, in units of ``spread``."""
    medians = []
    for ids in ((2, 41), (3, 42), (4, 43)):
        inside = values[torch.isin(labels, torch.tensor([i for i in ids if i in scheme.ids], dtype=labels.dtype))]
        medians.append(float(inside.median()) if len(inside) >= 20 else None)
    white, grey, ventricle = medians
    if spread <= 0 or grey is None:
        return None, None
    return (
        None if white is None else (white - grey) / spread,
        None if ventricle is None else (grey - ventricle) / spread,
    )


def _lopsided(volumes: dict[int, float], scheme: LabelScheme) -> float | None:
    """|left − right| over all sided structures, as a share of the mean of both."""
    if not scheme.sided:
        return None
    left, right = (sum(volume for i, volume in volumes.items() if _side(i) == side) for side in (1, 2))
    return 2 * abs(left - right) / (left + right) if left + right else None


def _side(structure: int) -> int:
    """1 for a structure of the left, 2 for one of the right, 0 for one of the middle."""
    return 0 if mirrored_id(structure) == structure else (1 if FREESURFER[structure].name.startswith("Left-") else 2)


def _classes(labels: LabelMap, scheme: LabelScheme, steps: Sequence[int] = (1, 1, 1)) -> Tensor:
    return torch.from_numpy(scheme.to_classes(_sparse(labels.data, steps).numpy(), labels.name))


def _steps(grid: Grid, brain: LabelMap | None = None) -> Sequence[int]:
    """Every how many voxels are about ``COARSE_MM``; all of them for a brain so thin that nothing would be left."""
    steps = [max(1, round(COARSE_MM / float(zoom))) for zoom in grid.zooms]
    return steps if brain is None or bool(_sparse(brain.mask, steps).any()) else (1, 1, 1)


def _sparse(data: Tensor, steps: Sequence[int]) -> Tensor:
    return data.cpu()[:: steps[0], :: steps[1], :: steps[2]]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value
