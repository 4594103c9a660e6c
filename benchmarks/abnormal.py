"""What networks of the paper's kind make of abnormal tissue: validation pairs as they are, with a mass, with lesions.

    python benchmarks/abnormal.py DATA MODEL.safetensors …

DATA is a folder that ``uresnet prepare`` wrote; the models were trained on it by ``uresnet train``. The pairs are those
of its split ``val`` in a ring and back. Each model registers each of them three times: as it is, with a mass painted
into the moving scan, and with lesions of the white matter (``ScanPainter``; the pair's number is the seed, so all
models see the same). A line for each model and case has means over the pairs: the Dice of the fifteen structures of the
paper's Table 1 after registration, and of the three tissues in the segmentation, both outside of the abnormal tissue;
the Dice of the abnormal class; and how much abnormal tissue was found, in millilitres, beside what there is. The first
lines are the identity, which lays centre of mass on centre of mass.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import AbnormalConfig
from uresnet.core.coordinates import finer_map, identity_coordinates
from uresnet.core.labels import label_scheme
from uresnet.core.sampling import sample
from uresnet.measures.overlap import dice_per_class
from uresnet.model.checkpoint import Model, load_model
from uresnet.training.data.classes import abnormal_table, class_table
from uresnet.training.data.dataset import open_dataset
from uresnet.training.data.pairs import ring_pairs
from uresnet.training.data.store import DeviceStore, load_store
from uresnet.training.examples.painted_scans import ScanPainter
from uresnet.training.examples.synthesis import grey_values
from uresnet.training.objective import sampling_map
from uresnet.transform import GridConvention

CASES = {
    "healthy": None,
    "mass": AbnormalConfig(mass=1.0),
    "lesions": AbnormalConfig(mass=0.0),
}
TABLE1, TISSUES = label_scheme("table1"), label_scheme("tissue3")
ABNORMAL = abnormal_table(label_scheme("tissue3_abnormal"))
COLUMNS = ("registration", "tissues", "abnormal", "found_ml", "true_ml")


@dataclass(frozen=True)
class Data:
    """The validation scans, the mean intensities of structures in the training scans, and the voxels' size in mm."""

    scans: DeviceStore
    greys: Tensor
    voxel_mm: float


def main() -> None:
    """Print a tab-separated table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    given = parser.parse_args()
    dataset = open_dataset(given.data)
    conform = dataset.conform
    data = Data(
        load_store(dataset, ["val"], "cpu"),
        grey_values(load_store(dataset, ["train"], "cpu"))[0],
        conform.blocks * math.prod(conform.zooms) ** (1 / 3),
    )
    print("\t".join(("model", "case", *COLUMNS)))
    for path in (None, *given.models):
        for case in CASES:
            name = "identity" if path is None else path.parent.name
            shown = (f"{value:.3f}" for value in means(None if path is None else load_model(path), data, case))
            print("\t".join((name, case, *shown)), flush=True)


@torch.inference_mode()
def means(model: Model | None, data: Data, case: str) -> Sequence[float]:
    """The columns of a case, means over all pairs; NaN for what a model does not say."""
    rows = []
    for number, (moving, fixed) in enumerate(ring_pairs(len(data.scans.scans))):
        image, labels = data.scans.batch([moving])
        config = CASES[case]
        if config is not None:
            painter = ScanPainter(config, data.greys, data.voxel_mm)
            image, labels = painter(image, labels, torch.Generator().manual_seed(number))
        rows.append(scores(model, (image, labels), data.scans.batch([fixed]), data.voxel_mm))
    known = ~np.isnan(rows)
    return [
        float(np.mean(column[there])) if there.any() else math.nan
        for column, there in zip(np.transpose(rows), known.T, strict=True)
    ]


def scores(
    model: Model | None, moving: tuple[Tensor, Tensor], fixed: tuple[Tensor, Tensor], voxel_mm: float
) -> list[float]:
    """The columns of one pair of images and labels."""
    (image, labels), (fixed_image, fixed_labels) = moving, fixed
    assert ABNORMAL is not None
    where, classes = identity_coordinates(labels.shape[2:]), None
    if model is not None:
        side = model.conform.blocks
        output = model.network(F.avg_pool3d(image, side), F.avg_pool3d(fixed_image, side))
        where = finer_map(sampling_map(output, GridConvention(model.card.network["convention"])), side)
        if output.segmentation_logits is not None:
            probabilities = output.segmentation_logits.softmax(dim=1)
            classes = F.interpolate(probabilities, scale_factor=side, mode="trilinear").argmax(dim=1, keepdim=True)
    warped = sample(labels, where, mode="nearest").long()
    healthy = 1 - torch.maximum(ABNORMAL[warped], ABNORMAL[fixed_labels.long()])
    table = class_table(TABLE1)
    registration = dice_per_class(table[warped] * healthy, table[fixed_labels.long()] * healthy, 16).nanmean()
    true = ABNORMAL[labels.long()]
    millilitres = voxel_mm**3 / 1000
    if model is None or classes is None:
        return [float(registration), math.nan, math.nan, math.nan, float(true.sum()) * millilitres]
    found = (classes == 4).long()
    outside = (classes * (classes < 4)) * (1 - true)
    tissues = dice_per_class(outside, class_table(TISSUES)[labels.long()] * (1 - true), 4).nanmean()
    abnormal = float(dice_per_class(found, true, 2)) if true.any() and model.scheme != TISSUES else math.nan
    volumes = [float(mask.sum()) * millilitres for mask in (found, true)]
    return [float(registration), float(tissues), abnormal, *volumes]


if __name__ == "__main__":
    main()
