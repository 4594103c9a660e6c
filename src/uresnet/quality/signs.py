"""What can be measured of a registration without knowing the truth: the signs that the verdict is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import (
    ABNORMAL,
    FREESURFER,
    LESION,
    MASSES,
    WITH_ABNORMAL,
    LabelScheme,
    looked_for,
    mirrored_id,
)
from uresnet.core.sampling import sample
from uresnet.measures.overlap import dice_per_class
from uresnet.measures.volumes import known_volume, structure_volumes
from uresnet.quality.distribution import Features, features_of
from uresnet.quality.handedness import handedness
from uresnet.results.record import InputRecord
from uresnet.results.registration import RegisteredPair
from uresnet.results.signs import ImageSigns, PairSigns
from uresnet.transform import Affine, Transform, map_grid

COARSE_MM = 2.0
"""Images are compared on a grid about this fine: an eighth of the voxels tells as much."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """What can be said of an image and its brain before its structures are known."""

    features: Features
    handedness: float | None


def appearance(image: Image, brain: LabelMap) -> Appearance:
    """The appearance of an image; ``brain`` lies on its grid."""
    return Appearance(brain_features(image, brain), handedness(image, brain))


def measure_signs(pair: RegisteredPair, appearances: Sequence[Appearance] | None = None) -> PairSigns:
    """Measure a pair; ``appearances`` of the moving and the fixed image where they are known already.

    What ``pair.record.measures`` holds is taken from there. Raises ``ValueError`` unless both images, both brains and
    the measures are there: while the pair is registered.
    """
    measures, inputs = pair.record.measures, pair.record.inputs
    if pair.moving is None or pair.fixed is None or pair.moving_brain is None or pair.fixed_brain is None:
        raise ValueError("signs are measured on two images with their brains")
    if measures is None:
        raise ValueError("signs need the measures of the registration")
    dice = structure_dice(pair)
    abnormal = [structure.name for structure in pair.scheme.classes if structure.id in ABNORMAL] if pair.scheme else []
    known = [value for name, value in dice.items() if value is not None and name not in abnormal]
    moving, fixed = appearances or (
        appearance(pair.moving, pair.moving_brain),
        appearance(pair.fixed, pair.fixed_brain),
    )
    return PairSigns(
        mean_dice=float(np.mean(known)) if known else None,
        dice=dice,
        overlap=measures.overlap_after,
        correlation=_correlation((pair.moving, pair.moving_brain), (pair.fixed, pair.fixed_brain), pair.transform),
        folding_fraction=measures.folding_fraction,
        inverse_mean_mm=measures.inverse_mean_mm,
        inverse_max_mm=measures.inverse_max_mm,
        moving=image_signs(
            pair.moving, pair.moving_brain, pair.moving_segmentation, pair.scheme, moving, inputs.get("moving")
        ),
        fixed=image_signs(
            pair.fixed, pair.fixed_brain, pair.fixed_segmentation, pair.scheme, fixed, inputs.get("fixed")
        ),
        crossed=crossed_share(pair.warped_segmentation, pair.fixed_segmentation, pair.scheme),
        scheme=pair.scheme.name if pair.scheme is not None else "",
        model=pair.record.model.name,
    )


def structure_dice(pair: RegisteredPair) -> dict[str, float | None]:
    """Dice of the warped and the predicted fixed segmentation by structure's name; None where neither has it, or where
    it is abnormal tissue that was not looked for in one of the images."""
    warped, fixed, scheme = pair.warped_segmentation, pair.fixed_segmentation, pair.scheme
    if warped is None or fixed is None or scheme is None:
        return {}
    dice = dice_per_class(_classes(warped, scheme), _classes(fixed, scheme), scheme.number_of_classes).tolist()
    unknown = _unknown(pair, scheme) if set(ABNORMAL) & set(scheme.ids) else set()
    return {
        structure.name: value if np.isfinite(value) and structure.id not in unknown else None
        for structure, value in zip(scheme.classes, dice, strict=True)
    }


def _unknown(pair: RegisteredPair, scheme: LabelScheme) -> set[int]:
    """Ids of the structures whose volume in one of the images is not known."""
    unknown = set()
    for name, labels in (("moving", pair.moving_segmentation), ("fixed", pair.fixed_segmentation)):
        recorded = pair.record.inputs.get(name)
        if labels is not None and recorded is not None:
            volumes = structure_volumes(labels, scheme)
            unknown |= {i for i in scheme.ids if known_volume(volumes, i, scheme, recorded.contrast) is None}
    return unknown


def image_signs(
    image: Image,
    brain: LabelMap,
    labels: LabelMap | None,
    scheme: LabelScheme | None,
    known: Appearance | None = None,
    recorded: InputRecord | None = None,
) -> ImageSigns:
    """The signs of one image; ``brain`` and ``labels`` lie on its grid; ``known`` is its appearance where it has been
    measured already, ``recorded`` what the record says of it."""
    contrast, drawn = (None, None) if recorded is None else (recorded.contrast, recorded.drawn_mm3)
    known = known or appearance(image, brain)
    features = known.features
    signs = ImageSigns(
        brain_ml=features.brain_ml,
        width=float(features.shape[1]),
        height=float(features.shape[2]),
        distance=features.distance,
        deep_over_rim=features.deep_over_rim,
        handedness=known.handedness,
        white_over_grey=None,
        grey_over_csf=None,
        labelled=None,
        missing=None,
        lopsided=None,
        contrast=contrast,
        drawn_ml=None if drawn is None else drawn / 1000,
    )
    if labels is None or scheme is None:
        return signs
    steps = _steps(image.grid, brain)
    values, inside = _sparse(image.data, steps), _sparse(brain.mask, steps)
    spread = float(values[inside].double().std(correction=0))
    white, grey = _contrasts(values, _sparse(labels.data, steps), scheme, spread)
    found = structure_volumes(labels, scheme)
    volumes = {i: volume for i, volume in found.items() if i not in ABNORMAL}
    masses = [volume for i, volume in found.items() if i in MASSES]
    # Both images of a pair have the classes of one in which abnormal tissue was drawn, though nobody looked for it.
    looked = looked_for(contrast) or (masses and scheme is not WITH_ABNORMAL)
    return replace(
        signs,
        white_over_grey=white,
        grey_over_csf=grey,
        labelled=sum(found.values()) / 1000 / features.brain_ml,
        missing=sum(volume == 0 for volume in volumes.values()),
        lopsided=_lopsided(volumes, scheme),
        mass_ml=sum(masses) / 1000 if any(masses) or looked else None,
        lesion_ml=found.get(LESION, 0.0) / 1000 if LESION in looked_for(contrast) or found.get(LESION) else None,
    )


def brain_features(image: Image, brain: LabelMap) -> Features:
    """What places an image among the training images; ``brain`` lies on its grid."""
    mask, steps = brain.mask.cpu(), _steps(image.grid, brain)
    values, inside = _sparse(image.data, steps).numpy(), _sparse(mask, steps).numpy()
    extents, volume = _extents_mm(mask, image.grid), float(mask.sum()) * image.grid.voxel_volume / 1000
    shape = (volume, float(extents[0] / extents[1]), float(extents[2] / extents[1]))
    return features_of(values, inside, image.grid.zooms * steps, shape)


def crossed_share(warped: LabelMap | None, fixed: LabelMap | None, scheme: LabelScheme | None) -> float | None:
    """Of the warped image's sided structures that land on any sided structure of the fixed image, the share that lands
    on the other side; None where a scheme does not distinguish sides or no sided structures meet."""
    if warped is None or fixed is None or scheme is None or not scheme.sided:
        return None
    sides = torch.tensor([0, *(_side(c.id) if mirrored_id(c.id) in scheme.ids else 0 for c in scheme.classes)])
    steps = _steps(fixed.grid)
    warped_side, fixed_side = (sides[_classes(labels, scheme, steps).long()] for labels in (warped, fixed))
    both = (warped_side > 0) & (fixed_side > 0)
    return float((warped_side != fixed_side)[both].double().mean()) if bool(both.any()) else None


# -- steps -------------------------------------------------------------------------------------------------------------


def _correlation(moving: tuple[Image, LabelMap], fixed: tuple[Image, LabelMap], transform: Transform) -> float:
    """Pearson's, of the warped and the fixed image where both have brain, on a coarse grid; each image with its brain.
    0 where there is nothing to correlate."""
    grid = fixed[0].grid
    coarse = grid.rescaled(np.maximum(1.0, np.round(COARSE_MM / grid.zooms)).tolist())
    moved_values, moved_brain = _read(*moving, transform, coarse)
    fixed_values, fixed_brain = _read(*fixed, Affine.identity(), coarse)
    both = moved_brain & fixed_brain
    a, b = moved_values[both].double(), fixed_values[both].double()
    if len(a) < 2 or float(a.std()) == 0 or float(b.std()) == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


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
    return np.asarray(np.maximum(high - low, 1e-3))


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
