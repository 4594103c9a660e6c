"""What is measured of one registered pair whose true labels are known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import torch

from uresnet.core.image import LabelMap
from uresnet.core.labels import LabelScheme, label_scheme
from uresnet.measures.overlap import dice_per_class
from uresnet.measures.surfaces import surface_distance

Measure = Literal["dice", "hd95_mm", "mean_mm"]

MERGED, SIDED, TISSUES = "table1", "freesurfer28", "tissue3"
"""Label schemes: the fifteen structures of the paper's Table 1, its 28 sided ones, and the three that it segments."""


@dataclass(frozen=True)
class StructureScore:
    """One structure of ``scheme``, warped against fixed labels; NaN where neither has it.

    Distances are measured for the merged structures only.
    """

    scheme: str
    structure: str
    dice: float
    hd95_mm: float = float("nan")
    mean_mm: float = float("nan")


@dataclass(frozen=True)
class PairScores:
    """Everything measured of one pair by one model.

    ``segmentation``: Dice of the moving image's predicted structures by abbreviation, empty without segmentation.
    ``folding_fraction`` and ``sd_log_jacobian`` are over the fixed brain. ``inverse_mm``: mean distance
    between a point of the fixed labels and the point to which the transform and then its inverse take it;
    ``consistency_mm``: the same with the registration of the swapped pair in place of the inverse, None if that was not
    run. ``seconds``: of ``register``, without reading and writing files; ``peak_bytes``: the most memory held
    meanwhile, None if the system does not say.
    """

    model: str
    moving: str
    fixed: str
    structures: tuple[StructureScore, ...]
    segmentation: dict[str, float]
    folding_fraction: float
    sd_log_jacobian: float
    inverse_mm: float
    inverse_max_mm: float
    consistency_mm: float | None
    seconds: float
    peak_bytes: int | None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """One line; :meth:`from_json` gives the same scores back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PairScores:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for a text that :meth:`to_json` did not write."""
        content = json.loads(text)
        structures = tuple(StructureScore(**structure) for structure in content.pop("structures"))
        return cls(structures=structures, warnings=tuple(content.pop("warnings")), **content)

    def dice(self, scheme: str = MERGED) -> dict[str, float]:
        """Dice of the warped labels by structure."""
        return {score.structure: score.dice for score in self.structures if score.scheme == scheme}

    def mean(self, measure: Measure, scheme: str = MERGED) -> float:
        """Mean of a measure over the structures that one of the images has; NaN if there is none."""
        values = np.array([getattr(score, measure) for score in self.structures if score.scheme == scheme])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def structure_scores(warped: LabelMap, fixed: LabelMap) -> tuple[StructureScore, ...]:
    """Scores of warped against fixed labels, both FreeSurfer ids on one grid: 15 merged, then 28 sided structures.

    Raises ``ValueError`` for label maps on different grids.
    """
    if not warped.grid.same_as(fixed.grid):
        raise ValueError("warped and fixed labels lie on different grids")
    scores = []
    merged = label_scheme(MERGED)
    found, truth = _classes(warped, merged), _classes(fixed, merged)
    dice = dice_per_class(found, truth, merged.number_of_classes)
    for c, structure in enumerate(merged.classes, start=1):
        distance = surface_distance((found == c).numpy(), (truth == c).numpy(), fixed.grid)
        overlap = float(dice[c - 1])
        scores.append(StructureScore(MERGED, structure.abbreviation, overlap, distance.hd95_mm, distance.mean_mm))
    sided = label_scheme(SIDED)
    dice = dice_per_class(_classes(warped, sided), _classes(fixed, sided), sided.number_of_classes)
    for structure, overlap in zip(sided.classes, dice.tolist(), strict=True):
        scores.append(StructureScore(SIDED, structure.name, overlap))
    return tuple(scores)


def segmentation_scores(predicted: LabelMap, truth: LabelMap) -> dict[str, float]:
    """Dice of cerebral white matter, cortex and lateral ventricle, both label maps FreeSurfer ids on one grid."""
    scheme = label_scheme(TISSUES)
    dice = dice_per_class(_classes(predicted, scheme), _classes(truth, scheme), scheme.number_of_classes)
    return {structure.abbreviation: d for structure, d in zip(scheme.classes, dice.tolist(), strict=True)}


def _classes(labels: LabelMap, scheme: LabelScheme) -> torch.Tensor:
    return torch.from_numpy(scheme.to_classes(labels.data.cpu().numpy(), labels.name))
