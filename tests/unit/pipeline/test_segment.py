"""One image from a file to its label map."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brains import FIELDS_OF_VIEW, brain_on, write_nifti, write_tiny_model
from uresnet.errors import UserError
from uresnet.pipeline.segment import segment


@pytest.fixture(scope="module", params=list(FIELDS_OF_VIEW.values()), ids=list(FIELDS_OF_VIEW))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain that lies in its file in each way round."""
    path = tmp_path_factory.mktemp("image") / "image.nii.gz"
    return write_nifti(brain_on(request.param), request.param, path)


def test_segmenting_alone_gives_the_native_grid(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    result = segment(image, model=tiny_model)
    result.save(tmp_path / "dseg.nii.gz")
    written, like = nib.Nifti1Image.from_filename(tmp_path / "dseg.nii.gz"), nib.Nifti1Image.from_filename(image)
    assert written.shape == like.shape and written.get_data_dtype() == np.int16
    np.testing.assert_allclose(written.affine, like.affine, atol=1e-4)
    counts = {value: int((np.asanyarray(written.dataobj) == value).sum()) for value in (2, 3, 4)}
    voxel = abs(np.linalg.det(like.affine[:3, :3]))
    assert {k: round(v / voxel) for k, v in result.volumes.items()} == counts


def test_the_record_is_of_one_image(tiny_model: Path, image: Path) -> None:
    told: list[str] = []
    record = segment(image, model=tiny_model, progress=lambda stage, seconds: told.append(stage)).record
    assert list(record.inputs) == ["image"] and record.inputs["image"].path == str(image)
    assert (record.transform, record.measures, record.command) == (None, None, None)
    assert record.quality is not None and record.quality.signs is not None
    assert list(record.seconds) == ["read", "load model", "find brain", "conform", "recognise", "segment", "total"]
    assert told == [stage for stage in record.seconds if stage != "total" for _ in range(2)]


def test_a_model_that_does_not_segment_is_an_error(image: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "r.safetensors", deforms=True, segmentation=False)
    with pytest.raises(UserError, match="registers only"):
        segment(image, model=model)
