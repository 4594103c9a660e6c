"""What ``docs/slicer-itksnap.md`` tells people to open, read as the viewers read it: by ITK, by their tables' rules."""

from __future__ import annotations

import re

import numpy as np
import SimpleITK as sitk

from uresnet.core.image import LabelMap
from uresnet.core.labels import SCHEMES
from uresnet.io import write_image, write_itksnap_labels, write_labels, write_slicer_colours
from uresnet.transform import resample

SCHEME = SCHEMES["freesurfer28"]


def test_the_warped_image_and_the_labels_have_the_fixed_images_geometry(known, tmp_path):
    """Otherwise a viewer overlays them elsewhere, or ITK-SNAP refuses the segmentation."""
    warped = resample(known.forward, known.moving, known.fixed.grid)
    write_image(warped, tmp_path / "warped.nii.gz")
    write_labels(LabelMap((warped.data > 0).short(), warped.grid), tmp_path / "dseg.nii.gz")
    fixed = sitk.ReadImage(known.path("fixed.nii.gz"))
    for name, kind in (("warped.nii.gz", sitk.sitkFloat32), ("dseg.nii.gz", sitk.sitkInt16)):
        image = sitk.ReadImage(tmp_path / name)
        assert image.GetPixelID() == kind and image.GetSize() == fixed.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), fixed.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(image.GetDirection(), fixed.GetDirection(), atol=1e-6)
        assert image.GetMetaData("qform_code") == image.GetMetaData("sform_code") == "1"


def test_slicer_opens_the_transform_as_a_composite(known):
    transform = sitk.CompositeTransform(sitk.ReadTransform(known.path("transform.h5")))
    kinds = [transform.GetNthTransform(n).GetName() for n in range(transform.GetNumberOfTransforms())]
    assert sorted(set(kinds)) == ["AffineTransform", "DisplacementFieldTransform"]


def test_slicers_colours_are_opaque_and_complete(tmp_path):
    write_slicer_colours(SCHEME, tmp_path / "c.ctbl")
    rows = [
        line.split()
        for line in (tmp_path / "c.ctbl").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert all(len(row) == 6 for row in rows)  # a name with a blank would shift the colours
    assert {int(row[0]) for row in rows} == {0, *SCHEME.ids}
    assert [row[5] for row in rows] == ["0"] + ["255"] * len(SCHEME.ids)


def test_itk_snaps_label_descriptions(tmp_path):
    write_itksnap_labels(SCHEME, tmp_path / "l.txt")
    rows = [line for line in (tmp_path / "l.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pattern = re.compile(r'(\d+) (\d+) (\d+) (\d+) (0|1) ([01]) ([01]) "([^"]+)"')
    found = [pattern.fullmatch(row) for row in rows]
    assert all(found) and rows[0] == '0 0 0 0 0 0 0 "Clear Label"'
    assert {int(match[1]) for match in found if match} == {0, *SCHEME.ids}
