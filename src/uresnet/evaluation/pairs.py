"""The pairs of an evaluation: which there are, and how one of them is registered and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from uresnet.core.image import Image, LabelMap
from uresnet.core.memory import peak_memory, reset_peak_memory
from uresnet.errors import UserError
from uresnet.evaluation.scores import PairScores, segmentation_scores, structure_scores
from uresnet.model.checkpoint import Model
from uresnet.pipeline.register import register
from uresnet.training.data.dataset import PackedDataset, Scan, open_dataset
from uresnet.training.data.pairs import ring_pairs
from uresnet.transform import Composite, inverse_error, resample

ScanPair = tuple[Scan, Scan]
"""Moving and fixed."""


def open_pairs(folder: Path, split: str, limit: int | None = None) -> tuple[PackedDataset, list[ScanPair]]:
    """The data and the pairs (moving, fixed) of a split: a ring of its scans, each pair followed by itself swapped.

    ``limit`` takes the first pairs only. Raises :class:`UserError` when there is no such data, or fewer than two scans.
    """
    dataset = open_dataset(folder)
    dataset.check_images()
    scans = dataset.of_split(split)
    if len(scans) < 2:
        raise UserError(f"{folder} holds a single scan in the split '{split}'; a pair needs two.")
    forward = ring_pairs(len(scans))[: len(scans)]
    both_ways = [pair for moving, fixed in forward for pair in ((moving, fixed), (fixed, moving))]
    pairs = [(scans[moving], scans[fixed]) for moving, fixed in dict.fromkeys(both_ways)]
    return dataset, pairs[:limit]


@dataclass(frozen=True)
class Judge:
    """Registers pairs of ``dataset`` with ``model``, through the steps of ``register``, and scores them.

    ``title`` names the model in the scores.
    """

    title: str
    model: Model
    dataset: PackedDataset
    device: str

    def score(self, pairs: Sequence[ScanPair]) -> list[PairScores]:
        """The scores of one pair, or of a pair and the same pair swapped, whose consistency is then measured too."""
        registered = [self._register(*pair) for pair in pairs]
        if len(registered) == 1:
            return [registered[0].scores]
        first, swapped = registered
        forth = inverse_error(first.transform, swapped.transform, first.fixed_labels).mean_mm
        back = inverse_error(swapped.transform, first.transform, swapped.fixed_labels).mean_mm
        return [replace(first.scores, consistency_mm=forth), replace(swapped.scores, consistency_mm=back)]

    def _register(self, moving: Scan, fixed: Scan) -> _RegisteredPair:
        moving_image, moving_labels = _read(self.dataset, moving)
        fixed_image, fixed_labels = _read(self.dataset, fixed)
        measurable = reset_peak_memory(self.device)
        result = register(moving_image, fixed_image, model=self.model, brain="none", device=self.device)
        peak = peak_memory(self.device) if measurable else None
        warped = resample(result.transform, moving_labels, fixed_labels.grid)
        error = inverse_error(result.transform, result.inverse, fixed_labels)
        predicted = result.moving_segmentation
        scores = PairScores(
            model=self.title,
            moving=moving.id,
            fixed=fixed.id,
            structures=structure_scores(warped, fixed_labels),
            segmentation={} if predicted is None else segmentation_scores(predicted, moving_labels),
            folding_fraction=result.measures.folding_fraction,
            sd_log_jacobian=result.measures.sd_log_jacobian,
            inverse_mm=error.mean_mm,
            inverse_max_mm=error.max_mm,
            consistency_mm=None,
            seconds=result.record.seconds["total"],
            peak_bytes=peak,
            warnings=tuple(result.warnings),
        )
        return _RegisteredPair(scores, result.transform, fixed_labels)


@dataclass(frozen=True, eq=False)
class _RegisteredPair:
    scores: PairScores
    transform: Composite
    fixed_labels: LabelMap


def _read(dataset: PackedDataset, scan: Scan) -> tuple[Image, LabelMap]:
    """The image and the labels of a scan where they lie in its world, as ``register`` would read them from files."""
    grid = dataset.grid(scan)
    image = torch.from_numpy(dataset.image(scan) * dataset.image_scale)
    labels = torch.from_numpy(dataset.labels(scan).astype("int16"))
    return Image(image, grid, scan.id), LabelMap(labels, grid, f"{scan.id} (labels)")
