"""What is measured of one registered pair whose true labels are known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from uresnet.core.image import LabelMap
from uresnet.core.labels import LabelScheme, label_scheme
from uresnet.measures.overlap import dice_per_class
from uresnet.measures.surfaces import surface_distance

MERGED, SIDED, TISSUES = "table1", "freesurfer28", "tissue3"
"""Label schemes: the fifteen structures of the paper's Table 1, its 28 sided ones, and the three that it segments."""


@dataclass(frozen=True)
class StructureScore:
    """One structure of ``scheme``, warped against fixed; NaN where neither has it. Distances of merged ones only."""

    scheme: str
    structure: str
    dice: float
    hd95_mm: float = float("nan")
    mean_mm: float = float("nan")


@dataclass(frozen=True)
class PairScores:
    """Everything measured of one pair by one model.

    ``segmentation``: Dice of the moving image's predicted structures by abbreviation, empty without segmentation.
    ``folding_fraction`` and ``sd_log_jacobian`` are over the fixed brain. ``inverse_mm``: mean distance between a point
    of the fixed labels and its image there and back by the inverse; ``consistency_mm``: the same by the registration of
    the swapped pair, None where that was not run. ``seconds``: of ``register``, without reading and writing files;
    ``peak_bytes``: the most memory held meanwhile, None where the system does not say.
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
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for a text that is none of ours."""
        content = json.loads(text)
        structures = tuple(StructureScore(**one) for one in content.pop("structures"))
        return cls(structures=structures, warnings=tuple(content.pop("warnings")), **content)

    def dice(self, scheme: str = MERGED) -> dict[str, float]:
        """Dice of the warped labels by structure."""
        return {one.structure: one.dice for one in self.structures if one.scheme == scheme}

    def mean(self, what: str, scheme: str = MERGED) -> float:
        """Mean over structures that there are of ``dice``, ``hd95_mm`` or ``mean_mm``."""
        values = np.array([getattr(one, what) for one in self.structures if one.scheme == scheme])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def structure_scores(warped: LabelMap, fixed: LabelMap) -> tuple[StructureScore, ...]:
    """Score warped against fixed labels, both FreeSurfer ids on one grid: the 15 merged, then the 28 sided structures.

    Raises ``ValueError`` for label maps on different grids.
    """
    if not warped.grid.same_as(fixed.grid):
        raise ValueError("warped and fixed labels lie on different grids")
    scores = []
    merged = label_scheme(MERGED)
    found, truth = _classes(warped, merged), _classes(fixed, merged)
    dice = dice_per_class(found, truth, merged.number_of_classes)
    for c, one in enumerate(merged.classes, start=1):
        distance = surface_distance((found == c).numpy(), (truth == c).numpy(), fixed.grid)
        scores.append(StructureScore(MERGED, one.abbreviation, float(dice[c - 1]), distance.hd95_mm, distance.mean_mm))
    sided = label_scheme(SIDED)
    dice = dice_per_class(_classes(warped, sided), _classes(fixed, sided), sided.number_of_classes)
    scores += [StructureScore(SIDED, one.name, float(d)) for one, d in zip(sided.classes, dice, strict=True)]
    return tuple(scores)


def segmentation_scores(predicted: LabelMap, truth: LabelMap) -> dict[str, float]:
    """Dice of cerebral white matter, cortex and lateral ventricle, both label maps FreeSurfer ids on one grid."""
    scheme = label_scheme(TISSUES)
    dice = dice_per_class(_classes(predicted, scheme), _classes(truth, scheme), scheme.number_of_classes)
    return {one.abbreviation: float(d) for one, d in zip(scheme.classes, dice, strict=True)}


def _classes(labels: LabelMap, scheme: LabelScheme) -> torch.Tensor:
    return torch.from_numpy(scheme.to_classes(labels.data.cpu().numpy(), labels.name))
