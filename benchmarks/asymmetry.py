"""Makes the mean asymmetry of brains that ``uresnet.report.handedness`` compares with, and tries it on others.

    python benchmarks/asymmetry.py OASIS_MALF TEMPLATE.npz

Both are over the ``train`` scans of OASIS_MALF/participants.tsv: the mean asymmetry, and the mean intensity profile
that is printed for ``uresnet.report.signs``. The cosine of every scan with the mean is printed, for ``train`` scans
with the mean of all the other people's.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

import uresnet
from uresnet.image import Image, LabelMap
from uresnet.report.handedness import asymmetry_pattern, brain_extents
from uresnet.report.signs import intensity_profile


def brain_of(image: Image) -> LabelMap:
    """The scans are stripped: what is not 0 is brain."""
    return LabelMap((image.data > 0).byte(), image.grid)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """1 alike, -1 mirrored."""
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def main(folder: Path, output: Path) -> None:
    """Measure, average, write and print."""
    with (folder / "participants.tsv").open(encoding="utf-8") as file:
        people = list(csv.DictReader(file, delimiter="\t"))
    scans = {one["scan_id"]: one for one in people}
    images = {scan: uresnet.read_image(folder / f"{scan}_T1.nii.gz") for scan in scans}
    train = [scan for scan, one in scans.items() if one["split"] == "train"]
    extents = np.mean([brain_extents(images[scan], brain_of(images[scan])) for scan in train], axis=0)
    patterns = {scan: asymmetry_pattern(image, brain_of(image), extents) for scan, image in images.items()}
    mean = np.mean([patterns[scan] for scan in train], axis=0)
    strength = np.median([np.linalg.norm(patterns[scan]) for scan in train])
    np.savez_compressed(output, pattern=mean.astype(np.float16), extents=extents, strength=strength)
    profiles = [intensity_profile(images[scan].data[images[scan].data > 0].double().numpy()) for scan in train]
    print(f"profile {np.mean(profiles, axis=0).round(3).tolist()}")
    print(f"extents {extents.round(1)} mm, strength {strength:.3f}")
    for scan, one in scans.items():
        others = [patterns[o] for o in train if scans[o]["subject"] != one["subject"]]
        score = cosine(patterns[scan], np.mean(others, axis=0))
        print(f"{scan}\t{one['split']}\t{score:.3f}\t{np.linalg.norm(patterns[scan]) / strength:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
