"""How far a registration is from the reference, ``--exact``, and one with one thread from one with two.

    python benchmarks/exact.py OASIS_MALF OUT [--pairs 1101-1107] [--options --refine]

OASIS_MALF and the ten pairs are those of ``accuracy.py``. Every pair is registered by ``uresnet register`` three times,
each a process of its own: with one thread, with two, and with ``--exact`` (two threads). Compared are what the files
say: the distance between where two transforms put the voxels of the fixed brain, and two inverses those of the moving
one (mm); and by how much Dice differs, the mean over the fifteen structures of the paper's Table 1: of the manual
labels of moving, warped, with those of fixed (``registered``), and of the structures found in fixed with the manual
ones (``segmented``). A row is added to OUT/exact.csv as soon as it is known, and a run that was stopped continues;
OUT/exact.md is the table.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

import uresnet
from accuracy import FREESURFER, METHODS, NEUROMORPHOMETRICS, PAIRS, SCHEME, merged, register, stamp, warped
from accuracy import uresnet as uresnet_command
from uresnet.measures.overlap import dice_per_class

FAST, ONE, EXACT = "2 threads", "1 thread", "--exact"
RUNS = {FAST: (2, ()), EXACT: (2, ("--exact",)), ONE: (1, ())}
COMPARED = ((FAST, EXACT), (ONE, FAST))
MEASURES = ("mean", "most", "worst", "inverse", "registered", "segmented")
COLUMNS = ("first", "second", "moving", "fixed", *MEASURES, "seconds", "seconds_second")
EVERY = 3  # voxel along each axis of a brain


def distances(folders: Sequence[Path], name: str, image: str) -> np.ndarray:
    """mm between where the files ``name`` of two folders put voxels of the brain of ``image``."""
    mask = nib.Nifti1Image.from_filename(folders[0] / f"{image}_brain_mask.nii.gz")
    voxels = np.argwhere(np.asanyarray(mask.dataobj) > 0)
    voxels = voxels[(voxels % EVERY == 0).all(axis=1)]
    points = nib.affines.apply_affine(mask.affine, voxels)
    first, second = (uresnet.read_transform(folder / name).apply(points) for folder in folders)
    apart: np.ndarray = np.linalg.norm(first - second, axis=1)
    return apart


def dice(folder: Path, data: Path, moving: str, fixed: str) -> tuple[float, float]:
    """Dice of the warped manual labels and of the structures found in the fixed image, with its manual labels."""
    like = data / f"{fixed}_labels.nii.gz"
    truth = merged(sitk.GetArrayFromImage(sitk.ReadImage(str(like))).astype(np.int32), NEUROMORPHOMETRICS)
    ours = warped(METHODS["default"], folder.parent, data / f"{moving}_labels.nii.gz", like)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "fixed_dseg.nii.gz"))).astype(np.int32)
    registered, segmented = (
        float(dice_per_class(classes, truth, SCHEME.number_of_classes).nanmean())
        for classes in (merged(ours, NEUROMORPHOMETRICS), merged(found, FREESURFER))
    )
    return registered, segmented


def compare(folders: Sequence[Path], data: Path, moving: str, fixed: str) -> dict[str, float]:
    """The measures of two results."""
    there = distances(folders, "transform.h5", "fixed")
    back = distances(folders, "inverse_transform.h5", "moving")
    overlaps = np.array([dice(folder, data, moving, fixed) for folder in folders])
    changes = np.abs(overlaps[0] - overlaps[1]).tolist()
    numbers = (there.mean(), np.quantile(there, 0.999), there.max(), back.max(), *changes)
    return dict(zip(MEASURES, map(float, numbers), strict=True))


def rows_of(data: Path, moving: str, fixed: str, options: Sequence[str]) -> list[dict[str, object]]:
    """Registers one pair in all ways and compares them."""
    with tempfile.TemporaryDirectory() as place:
        seconds = {}
        for name, (threads, own) in RUNS.items():
            method = replace(METHODS["default"], command=uresnet_command("--outputs", OUTPUTS, *own, *options))
            folder = Path(place) / name
            folder.mkdir()
            first, second = (data / f"{scan}_T1.nii.gz" for scan in (moving, fixed))
            seconds[name] = register(method, first, second, folder, threads)
        rows = []
        for one, other in COMPARED:
            folders = [Path(place) / name / "result" for name in (one, other)]
            found = compare(folders, data, moving, fixed)
            row = {"first": one, "second": other, "moving": moving, "fixed": fixed, **found}
            rows.append(row | {"seconds": seconds[one], "seconds_second": seconds[other]})
        return rows


OUTPUTS = "transform,inverse,segmentations,mask"


def table(rows: Sequence[dict[str, str]]) -> str:
    """A line for each comparison, over all its pairs: the largest of each measure, and the mean of the first."""
    lines = [
        "| | pairs | points, mean | 99.9 % | worst | inverse, worst | Dice, registered | Dice, segmented | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for first, second in COMPARED:
        own = [row for row in rows if (row["first"], row["second"]) == (first, second)]
        if not own:
            continue
        mean = np.mean([float(row["mean"]) for row in own])
        most, worst, inverse, registered, segmented = (max(float(row[name]) for row in own) for name in MEASURES[1:])
        seconds = [np.mean([float(row[name]) for row in own]) for name in ("seconds", "seconds_second")]
        lines.append(
            f"| {first}, {second} | {len(own)} | {mean:.4f} | {most:.4f} | {worst:.4f} | {inverse:.4f} | "
            f"{registered:.5f} | {segmented:.5f} | {seconds[0]:.0f}, {seconds[1]:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Register, compare, write. 2 if a file is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pairs", nargs="+", default=[f"{m}-{f}" for m, f in PAIRS], help="MOVING-FIXED …")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more options of uresnet register")
    chosen = parser.parse_args(arguments)
    pairs = [pair.partition("-")[::2] for pair in chosen.pairs]
    needed = [chosen.data / f"{scan}_{end}.nii.gz" for pair in pairs for scan in pair for end in ("T1", "labels")]
    missing = [f"{file} does not exist." for file in dict.fromkeys(needed) if not file.exists()]
    if missing:
        print(*missing, sep="\n", file=sys.stderr)
        return 2
    chosen.output.mkdir(parents=True, exist_ok=True)
    results = chosen.output / "exact.csv"
    rows: list[dict[str, str]] = []
    if results.exists():
        with results.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    with results.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        for moving, fixed in pairs:
            if any((row["moving"], row["fixed"]) == (moving, fixed) for row in rows):
                continue
            for row in rows_of(chosen.data, moving, fixed, chosen.options):
                writer.writerow(row)
                rows.append({name: str(value) for name, value in row.items()})
                print(*row.values(), flush=True)
            file.flush()
    (chosen.output / "exact.md").write_text(f"# Exactness\n\n{table(rows)}\n{stamp()}", encoding="utf-8")
    print("", table(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
