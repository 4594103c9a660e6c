"""Makes what images are compared with: the usual asymmetry of brains, and the mean and spread of their features.

    python benchmarks/asymmetry.py OASIS_MALF TEMPLATE.npz

Both are over the ``train`` scans of OASIS_MALF/participants.tsv. The asymmetry is written to TEMPLATE.npz, which
``uresnet.quality.handedness`` reads; the features are printed, for ``REFERENCE`` of ``uresnet.quality.distribution``.
Then, for every scan, the likeness of its asymmetry to the usual one of all other people is printed, and its strength.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import uresnet
from uresnet.core.image import Image, LabelMap
from uresnet.quality.handedness import Usual, asymmetry_pattern, brain_extents
from uresnet.quality.signs import brain_features

Array = npt.NDArray[Any]


def brain_of(image: Image) -> LabelMap:
    """The brain of a stripped scan: all that is not 0."""
    return LabelMap((image.data > 0).byte(), image.grid)


def extents_of(image: Image) -> Array:
    """The extents of a brain, mm."""
    extents = brain_extents(image, brain_of(image))
    assert extents is not None, f"{image.name} holds no brain"
    return extents


def pattern_of(image: Image, extents_mm: Array) -> Array:
    """The asymmetry of a brain."""
    pattern = asymmetry_pattern(image, brain_of(image), extents_mm)
    assert pattern is not None, f"{image.name} holds no brain"
    return pattern


def main(folder: Path, output: Path) -> None:
    """Measure, average, write and print."""
    with (folder / "participants.tsv").open(encoding="utf-8") as file:
        scans = {row["scan_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    images = {scan: uresnet.read_image(folder / f"{scan}_T1.nii.gz") for scan in scans}
    train = [scan for scan, row in scans.items() if row["split"] == "train"]
    extents = np.mean([extents_of(images[scan]) for scan in train], axis=0)
    patterns = {scan: pattern_of(image, extents) for scan, image in images.items()}
    usual = Usual.of([patterns[scan] for scan in train])
    strength = np.median([np.linalg.norm(patterns[scan]) for scan in train])
    mean, weight = usual.mean.astype(np.float16), usual.weight.astype(np.float16)
    np.savez_compressed(output, mean=mean, weight=weight, extents=extents, strength=strength)
    features = np.array([brain_features(images[scan], brain_of(images[scan])).numbers for scan in train])
    for centre, spread in zip(features.mean(axis=0), features.std(axis=0, ddof=1), strict=True):
        print(f"feature ({centre:.3f}, {spread:.4f})")
    print(f"extents {extents.round(1)} mm, strength {strength:.3f}")
    for scan, row in scans.items():
        of_others = [patterns[other] for other in train if scans[other]["subject"] != row["subject"]]
        likeness = Usual.of(of_others).likeness(patterns[scan])
        print(f"{scan}\t{row['split']}\t{likeness:.3f}\t{np.linalg.norm(patterns[scan]) / strength:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
