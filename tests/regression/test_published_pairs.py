"""The published weights, file to file: the Dice that an independent implementation found for them, to 0.005.

This pins everything at once: conforming, the 2019 grid convention, the way back to native space, the file formats.
"""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from uresnet.core.labels import LabelScheme, label_scheme, left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.pipeline.register import register

TABLE1 = label_scheme("table1")
TISSUE = label_scheme("tissue3")


def reference_rows(reference: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (reference / "published_on_val.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["checkpoint"] == "segmentation"]
    return {(row["moving"], row["fixed"]): row for row in rows}


def manual_labels(path: Path) -> np.ndarray:
    """FreeSurfer ids, (I, J, K)."""
    image = nib.Nifti1Image.from_filename(path)
    values = np.asanyarray(image.dataobj)
    return neuromorphometrics_to_freesurfer(values, left_of_midline(values, image.affine))


def dice_by_class(scheme: LabelScheme, found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """From all pairs of classes counted at once; by abbreviation."""
    classes = [scheme.to_classes(values, strict=False).astype(np.int64).ravel() for values in (found, truth)]
    n = scheme.number_of_classes
    together = np.bincount(classes[0] * n + classes[1], minlength=n * n).reshape(n, n)
    dice = 2 * together.diagonal() / (together.sum(axis=0) + together.sum(axis=1))
    return {structure.abbreviation: float(value) for structure, value in zip(scheme.classes, dice[1:], strict=True)}


@pytest.mark.real
def test_dice_of_a_pair(shared_data: Path, shared_reference: Path, tmp_path: Path) -> None:
    names = ("1101", "1107")
    brains = shared_data / "oasis_malf"
    moving, fixed = (brains / f"{name}_T1.nii.gz" for name in names)
    weights = shared_reference / "published_weights" / "segmentation.hdf5"
    register(moving, fixed, model=weights).save(tmp_path / "out", report=False)
    expected = reference_rows(shared_reference)[names]

    labels = [brains / f"{name}_labels.nii.gz" for name in names]
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    carried = sitk.Resample(
        sitk.ReadImage(str(labels[0])), sitk.ReadImage(str(labels[1])), transform, sitk.sitkNearestNeighbor, 0
    )
    sitk.WriteImage(carried, str(tmp_path / "carried.nii.gz"))
    ours, theirs = manual_labels(tmp_path / "carried.nii.gz"), manual_labels(labels[1])
    for structure, dice in dice_by_class(TABLE1, ours, theirs).items():
        assert dice == pytest.approx(float(expected[structure]), abs=0.005), structure

    segmentation = np.asanyarray(nib.Nifti1Image.from_filename(tmp_path / "out" / "moving_dseg.nii.gz").dataobj)
    for tissue, dice in dice_by_class(TISSUE, segmentation, manual_labels(labels[0])).items():
        assert dice == pytest.approx(float(expected[f"seg_{tissue}"]), abs=0.005), tissue
