"""A brain whose top is missing from the image: nothing folds, and what is there is registered as well as before."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from uresnet.core.labels import left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.pipeline.register import register


def manual(path: Path) -> np.ndarray:
    image = nib.Nifti1Image.from_filename(path)
    values = np.asanyarray(image.dataobj)
    return neuromorphometrics_to_freesurfer(values, left_of_midline(values, image.affine))


@pytest.mark.real
def test_the_upper_two_fifths_are_missing(shared_data: Path, tmp_path: Path) -> None:
    brains = shared_data / "oasis_malf"
    image = nib.Nifti1Image.from_filename(brains / "1101_T1.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    nib.save(image.slicer[:, :, :97], tmp_path / "cut.nii.gz")
    result = register(tmp_path / "cut.nii.gz", brains / "1107_T1.nii.gz", model="default")
    assert any("cut off at the top" in sentence for sentence in result.warnings)
    assert result.measures.folding_fraction == 0
    assert result.measures.sd_log_jacobian < 0.35  # with forces at the cut 1.04
    assert result.measures.inverse_mean_mm < 0.01 and result.measures.inverse_max_mm < 0.3
    result.save(tmp_path / "out", report=False)
    fixed = sitk.ReadImage(str(brains / "1107_labels.nii.gz"))
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    # The labels of the whole image: the deformation continues into what was missing.
    moving = sitk.ReadImage(str(brains / "1101_labels.nii.gz"))
    warped = sitk.Resample(moving, fixed, transform, sitk.sitkNearestNeighbor, 0)
    sitk.WriteImage(warped, str(tmp_path / "warped.nii.gz"))
    found, truth = manual(tmp_path / "warped.nii.gz"), manual(brains / "1107_labels.nii.gz")
    for ids, least in (((16,), 0.90), ((8, 47), 0.90), ((11, 50), 0.80), ((2, 41), 0.75), ((3, 42), 0.73)):
        a, b = np.isin(found, ids), np.isin(truth, ids)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > least, ids
