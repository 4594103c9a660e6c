"""The published weights on a real pair: the Dice that an independent implementation found for them, to 0.005.

This pins everything at once: conforming, the 2019 grid convention, the way back to native space, the file of the
transform. The inverse, half of the time of a registration with this model, is left out: nothing here looks at it.
"""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from uresnet.core.labels import LabelScheme, label_scheme, left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.coupling import couple
from uresnet.io import read_image
from uresnet.model.checkpoint import load_model
from uresnet.pipeline.steps import native_labels
from uresnet.preprocess import conform_pair, extract_brain
from uresnet.transform_files import write_itk_composite

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
    model = load_model(weights)
    images = [read_image(path) for path in (moving, fixed)]
    found = [(image, extract_brain(image)[0]) for image in images]
    coupling = couple(model, *conform_pair(found[0], found[1], model.conform))
    write_itk_composite(coupling.transform, tmp_path / "transform.h5")
    expected = reference_rows(shared_reference)[names]

    labels = [brains / f"{name}_labels.nii.gz" for name in names]
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    carried = sitk.Resample(
        sitk.ReadImage(str(labels[0])), sitk.ReadImage(str(labels[1])), transform, sitk.sitkNearestNeighbor, 0
    )
    sitk.WriteImage(carried, str(tmp_path / "carried.nii.gz"))
    ours, theirs = manual_labels(tmp_path / "carried.nii.gz"), manual_labels(labels[1])
    for structure, dice in dice_by_class(TABLE1, ours, theirs).items():
        assert dice == pytest.approx(float(expected[structure]), abs=0.005), structure

    assert coupling.moving_segmented is not None and coupling.scheme is not None
    segmentation = native_labels(coupling.moving_segmented, coupling.scheme, images[0].grid)
    for tissue, dice in dice_by_class(TISSUE, segmentation.data.numpy(), manual_labels(labels[0])).items():
        assert dice == pytest.approx(float(expected[f"seg_{tissue}"]), abs=0.005), tissue
