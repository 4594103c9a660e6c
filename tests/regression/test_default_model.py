"""The default model on two real brains, which its weights have seen, through the files that it writes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from uresnet.core.labels import label_scheme, left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.pipeline.save import Registration

TABLE1 = label_scheme("table1")


def grouped(values: np.ndarray) -> np.ndarray:
    return TABLE1.to_classes(values, strict=False)


def manual(path: Path) -> np.ndarray:
    image = nib.Nifti1Image.from_filename(path)
    values = np.asanyarray(image.dataobj)
    return neuromorphometrics_to_freesurfer(values, left_of_midline(values, image.affine))


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    together = np.bincount(16 * grouped(a).astype(np.int64).ravel() + grouped(b).ravel(), minlength=256).reshape(16, 16)
    return float(np.mean((2 * together.diagonal() / (together.sum(axis=0) + together.sum(axis=1)))[1:]))


@pytest.fixture
def registered(registered_1113_to_1107: Registration) -> Registration:
    return registered_1113_to_1107


@pytest.mark.real
def test_manual_labels_are_carried_over(registered: Registration, shared_data: Path, tmp_path: Path) -> None:
    registered.save(tmp_path / "out", outputs=("transform", "segmentations"))
    brains = shared_data / "oasis_malf"
    moving, fixed = (brains / f"{name}_labels.nii.gz" for name in (1113, 1107))
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    carried = sitk.Resample(
        sitk.ReadImage(str(moving)), sitk.ReadImage(str(fixed)), transform, sitk.sitkNearestNeighbor, 0
    )
    sitk.WriteImage(carried, str(tmp_path / "carried.nii.gz"))
    assert mean_dice(manual(tmp_path / "carried.nii.gz"), manual(fixed)) > 0.80
    for name, truth in (("moving", moving), ("fixed", fixed)):
        segmented = np.asanyarray(nib.Nifti1Image.from_filename(tmp_path / "out" / f"{name}_dseg.nii.gz").dataobj)
        assert mean_dice(segmented, manual(truth)) > 0.86


@pytest.mark.real
def test_healthy_t1_images_are_recognised_and_left_to_the_default_model(registered: Registration) -> None:
    assert registered.record.model.name == "default"
    assert [image.contrast for image in registered.record.inputs.values()] == ["T1", "T1"]
    assert registered.scheme is not None and registered.scheme.name == "freesurfer32"


@pytest.mark.real
def test_no_folds_and_an_inverse_by_construction(registered: Registration) -> None:
    assert registered.measures.folding_fraction == 0
    assert registered.measures.inverse_mean_mm < 0.01
    assert registered.measures.inverse_max_mm < 0.3
