"""How well other contrasts are segmented and registered.

    python benchmarks/contrasts.py [--lesions FOLDER] [--heads FOLDER] [--tumours FOLDER] [--freesurfer SUBJECTS]
                                   [--model NAME|FILE]

Measured through the public functions, with the defaults of the command; ``--model`` takes another model for what is not
a T1-weighted image. A tab-separated table; Dice is the mean over the fifteen structures of the paper's Table 1.

FOLDER of lesions holds ``patientNN_T1.nii.gz``, ``_T2``, ``_FLAIR`` and ``_lesions`` of two patients on one grid
(multiple sclerosis, expert's lesions): the Dice of each contrast with the segmentation of the same patient's T1 by
``default``; that of lesions in FLAIR with the expert's; and the mean distance, over the fixed brain, between where a
registration across contrasts puts a point and where that of the two T1 images by ``default`` puts it.

FOLDER of heads holds ``SESSION_T1W.nii.gz``, ``_T2W`` and ``_FLAIR``, each on its own grid: the Dice with the
segmentation of the T1 by ``default``, on the grid of the T1; and the same where the labels are moved first, because
people move between scans: by where a parabola through the Dice of moves by 1 mm along each axis has its top.

FOLDER of tumours holds ``PERSON_CONTRAST.nii.gz`` and, where the whole tumour is known, ``PERSON_seg.nii.gz`` on the
same grid: the millilitres of masses (ids 25 and 57) and of lesions and swelling (77), the Dice of all three with the
whole tumour, and the verdict.

SUBJECTS are FreeSurfer's: the Dice of ``mri/norm.mgz`` with ``mri/aseg.mgz``, as it is, with dark and bright exchanged,
and with slices of 5 mm, which are means over 5 mm from bottom to top, interpolated linearly.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import uresnet
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import ABNORMAL, LESION, MASSES, label_scheme
from uresnet.io import read_image, read_labels
from uresnet.measures.overlap import dice_per_class
from uresnet.training.examples.acquisition import thick_slices_along
from uresnet.transform import Affine, resample

TABLE1 = label_scheme("table1")
PATIENTS = ("07", "19")
CONTRASTS = ("T1", "T2", "FLAIR")


def agreement(found: LabelMap, truth: LabelMap) -> float:
    """Mean Dice of ``found``, carried to the grid of ``truth``."""
    return agreement_moved(found, truth, (0.0, 0.0, 0.0))


def agreement_moved(found: LabelMap, truth: LabelMap, millimetres: Sequence[float]) -> float:
    """As :func:`agreement`, after a move by so many ``millimetres`` in the world."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.negative(millimetres)
    there = resample(Affine(matrix), found, truth.grid, "nearest")
    return float(dice_per_class(_grouped(there.data), _grouped(truth.data), TABLE1.number_of_classes).nanmean())


def best_move(found: LabelMap, truth: LabelMap) -> list[float]:
    """Millimetres along each axis of the world by which ``found`` has to move to lie on ``truth``, at most 1."""
    here, moves = agreement(found, truth), []
    for axis in np.eye(3):
        before, after = (agreement_moved(found, truth, sign * axis) for sign in (-1, 1))
        bend = 2 * here - before - after
        moves.append(float(np.clip((after - before) / (2 * bend), -1, 1)) if bend > 0 else 0.0)
    return moves


def of_lesions(folder: Path, model: str | None) -> None:
    """Two patients with lesions: segmentation of each contrast, and registration across contrasts."""
    for patient in PATIENTS:
        reference = uresnet.segment(folder / f"patient{patient}_T1.nii.gz", model="default").labels
        expert = read_labels(folder / f"patient{patient}_lesions.nii.gz").mask
        for contrast in CONTRASTS:
            found = uresnet.segment(folder / f"patient{patient}_{contrast}.nii.gz", model=model).labels
            say("Dice with T1", patient, contrast, agreement(found, reference))
            if contrast == "FLAIR":
                say(
                    "Dice of lesions",
                    patient,
                    contrast,
                    float(dice_per_class((found.data == 77).byte(), expert.byte(), 2)[0]),
                )
    moving, fixed = (str(folder / f"patient{patient}_{{}}.nii.gz") for patient in PATIENTS)
    truth = uresnet.register(moving.format("T1"), fixed.format("T1"), model="default")
    assert truth.fixed_brain is not None
    points = torch.from_numpy(truth.fixed.grid.points_to_world(np.argwhere(truth.fixed_brain.mask.numpy())[::997]))
    for pair in (("FLAIR", "T1"), ("T2", "T1"), ("T1", "FLAIR"), ("T2", "FLAIR")):
        across = uresnet.register(moving.format(pair[0]), fixed.format(pair[1]), model=model).transform
        distance = (across.apply(points) - truth.transform.apply(points)).norm(dim=1).mean()
        say("distance, mm", "→".join(PATIENTS), "→".join(pair), float(distance))


def of_heads(folder: Path, model: str | None) -> None:
    """Sessions of three contrasts, each on its own grid."""
    for t1 in sorted(folder.glob("*_T1W.nii.gz")):
        session = t1.name.removesuffix("_T1W.nii.gz")
        reference = uresnet.segment(t1, model="default").labels
        for contrast in ("T2W", "FLAIR"):
            found = uresnet.segment(folder / f"{session}_{contrast}.nii.gz", model=model).labels
            say("Dice with T1", session, contrast, agreement(found, reference))
            move = best_move(found, reference)
            say("moved, mm", session, contrast, " ".join(f"{step:.2f}" for step in move))
            say("Dice with T1, moved", session, contrast, agreement_moved(found, reference, move))


def of_tumours(folder: Path, model: str | None) -> None:
    """People with tumours: how much of it is found in each contrast, and the verdict."""
    for image in sorted(folder.glob("*.nii.gz")):
        person, contrast = image.name.removesuffix(".nii.gz").rsplit("_", 1)
        if contrast == "seg":
            continue
        result = uresnet.segment(image, model=model)
        found, expert = result.labels.data, folder / f"{person}_seg.nii.gz"
        for name, ids in (("mass, ml", MASSES), ("lesions and swelling, ml", (LESION,))):
            say(name, person, contrast, sum(result.volumes.get(i, 0.0) for i in ids) / 1000)
        if expert.exists():
            whole = torch.isin(found, torch.tensor(ABNORMAL, dtype=found.dtype))
            truth = read_labels(expert).mask
            say("Dice of the whole tumour", person, contrast, float(dice_per_class(whole.byte(), truth.byte(), 2)[0]))
        assert result.record.quality is not None
        say("verdict", person, contrast, result.record.quality.verdict.value)


def of_freesurfer(subjects: Path, model: str | None) -> None:
    """T1-weighted images against FreeSurfer's labels, as they are and changed."""
    for labels in sorted(subjects.glob("*/mri/aseg.mgz")):
        truth, image = read_labels(labels), read_image(labels.with_name("norm.mgz"))
        for name, changed in (("T1", image), ("exchanged", exchanged(image)), ("5 mm", in_slices(image, 5.0))):
            found = uresnet.segment(changed, model=model).labels
            say("Dice with aseg", labels.parts[-3], name, agreement(found, truth))


def exchanged(image: Image) -> Image:
    """Dark becomes bright inside the brain."""
    inside = image.data > 0
    most = float(torch.quantile(image.data[inside][::10], 0.999))
    return replace(image, data=torch.where(inside, (1.02 * most - image.data).clamp(min=0.01 * most), 0.0))


def in_slices(image: Image, thickness: float) -> Image:
    """The image as slices of ``thickness`` mm from bottom to top show it; voxels of 1 mm."""
    axis = next(axis for axis, code in enumerate(image.grid.axis_codes) if code in "IS")
    direction = torch.nn.functional.one_hot(torch.tensor(axis), 3).float()
    seen = thick_slices_along(image.data[None, None], direction, thickness)[0, 0]
    return replace(image, data=seen * (image.data > 0))


def say(*cells: str | float) -> None:
    """A line of the table."""
    print(*(f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells), sep="\t", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a tab-separated table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesions", type=Path)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--tumours", type=Path)
    parser.add_argument("--freesurfer", type=Path)
    parser.add_argument("--model")
    given = parser.parse_args(arguments)
    say("what", "who", "contrast", "value")
    for measure in (of_freesurfer, of_heads, of_tumours, of_lesions):
        folder = getattr(given, measure.__name__.removeprefix("of_"))
        if folder is not None:
            measure(folder, given.model)


def _grouped(values: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(TABLE1.to_classes(values.numpy(), strict=False))


if __name__ == "__main__":
    main()
