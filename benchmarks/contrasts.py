"""How well other contrasts are segmented and registered: two patients with T1, T2 and FLAIR images on one grid.

    python benchmarks/contrasts.py FOLDER

FOLDER holds ``patientNN_T1.nii.gz``, ``_T2``, ``_FLAIR`` and ``_lesions`` of two patients (multiple sclerosis, expert's
lesions). Measured through the public functions, with the defaults of the command: the Dice of fifteen structures (the
paper's Table 1) of each contrast with the segmentation of the same patient's T1 by ``default``; the Dice of lesions in
FLAIR with the expert's; and the mean distance, over the fixed brain, between where a registration across contrasts puts
a point and where that of the two T1 images by ``default`` puts it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import uresnet
from uresnet.core.labels import label_scheme
from uresnet.io import read_labels
from uresnet.measures.overlap import dice_per_class

TABLE1 = label_scheme("table1")
PATIENTS = ("07", "19")
CONTRASTS = ("T1", "T2", "FLAIR")


def main() -> None:
    """Print a tab-separated table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    print("what\tpatient\tcontrast\tvalue", flush=True)
    for patient in PATIENTS:
        reference = uresnet.segment(folder / f"patient{patient}_T1.nii.gz", model="default").labels
        expert = read_labels(folder / f"patient{patient}_lesions.nii.gz").mask
        for contrast in CONTRASTS:
            found = uresnet.segment(folder / f"patient{patient}_{contrast}.nii.gz").labels
            dice = dice_per_class(_grouped(found.data), _grouped(reference.data), TABLE1.number_of_classes)
            print(f"Dice with T1\t{patient}\t{contrast}\t{float(dice.nanmean()):.3f}", flush=True)
            if contrast == "FLAIR":
                lesions = dice_per_class((found.data == 77).byte(), expert.byte(), 2)
                print(f"Dice of lesions\t{patient}\t{contrast}\t{float(lesions[0]):.3f}", flush=True)
    moving, fixed = (folder / f"patient{patient}_{{}}.nii.gz" for patient in PATIENTS)
    truth = uresnet.register(str(moving).format("T1"), str(fixed).format("T1"), model="default")
    assert truth.fixed_brain is not None
    points = torch.from_numpy(truth.fixed.grid.points_to_world(np.argwhere(truth.fixed_brain.mask.numpy())[::997]))
    for pair in (("FLAIR", "T1"), ("T2", "T1"), ("T1", "FLAIR"), ("T2", "FLAIR")):
        found_transform = uresnet.register(str(moving).format(pair[0]), str(fixed).format(pair[1])).transform
        distance = (found_transform.apply(points) - truth.transform.apply(points)).norm(dim=1).mean()
        print(f"distance, mm\t{'→'.join(PATIENTS)}\t{'→'.join(pair)}\t{float(distance):.2f}", flush=True)


def _grouped(values: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(TABLE1.to_classes(values.numpy(), strict=False))


if __name__ == "__main__":
    main()
