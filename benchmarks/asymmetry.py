"""Makes what images are compared with: the usual asymmetry of brains, and the mean and spread of their features.

    python benchmarks/asymmetry.py OASIS_MALF TEMPLATE.npz

Both are over the ``train`` scans of OASIS_MALF/participants.tsv: the asymmetry goes to TEMPLATE.npz (which
``uresnet.quality.handedness`` reads), the features are printed (``REFERENCE`` of ``uresnet.quality.distribution``). For
every scan the likeness of its asymmetry to the usual one of all the other people is printed, and its strength.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

import uresnet
from uresnet.core.image import Image, LabelMap
from uresnet.quality.handedness import Usual, asymmetry_pattern, brain_extents
from uresnet.quality.signs import brain_features


def brain_of(image: Image) -> LabelMap:
    """The scans are stripped: what is not 0 is brain."""
    return LabelMap((image.data > 0).byte(), image.grid)


def main(folder: Path, output: Path) -> None:
    """Measure, average, write and print."""
    with (folder / "participants.tsv").open(encoding="utf-8") as file:
        people = list(csv.DictReader(file, delimiter="\t"))
    scans = {one["scan_id"]: one for one in people}
    images = {scan: uresnet.read_image(folder / f"{scan}_T1.nii.gz") for scan in scans}
    train = [scan for scan, one in scans.items() if one["split"] == "train"]
    extents = np.mean([brain_extents(images[scan], brain_of(images[scan])) for scan in train], axis=0)
    patterns = {scan: asymmetry_pattern(image, brain_of(image), extents) for scan, image in images.items()}
    usual = Usual.of([patterns[scan] for scan in train])
    strength = np.median([np.linalg.norm(patterns[scan]) for scan in train])
    kept = {"mean": usual.mean.astype(np.float16), "weight": usual.weight.astype(np.float16)}
    np.savez_compressed(output, **kept, extents=extents, strength=strength)
    numbers = np.array([brain_features(images[scan], brain_of(images[scan])).numbers for scan in train])
    for mean_of_it, spread in zip(numbers.mean(axis=0), numbers.std(axis=0, ddof=1), strict=True):
        print(f"feature ({mean_of_it:.3f}, {spread:.4f})")
    print(f"extents {extents.round(1)} mm, strength {strength:.3f}")
    for scan, one in scans.items():
        others = [patterns[o] for o in train if scans[o]["subject"] != one["subject"]]
        score = Usual.of(others).likeness(patterns[scan])
        print(f"{scan}\t{one['split']}\t{score:.3f}\t{np.linalg.norm(patterns[scan]) / strength:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
