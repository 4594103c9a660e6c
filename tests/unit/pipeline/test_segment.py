"""One image from a file to its label map."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from brains import COARSE, FIELDS_OF_VIEW, brain_on, write_nifti, write_tiny_model
from uresnet.config import SegmenterConfig
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.core.labels import SCHEMES
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_image
from uresnet.model.catalogue import ModelCard
from uresnet.model.checkpoint import MIDSPACE, Model
from uresnet.model.segmenter import Segmenter
from uresnet.pipeline.save import Segmentation
from uresnet.pipeline.segment import segment
from uresnet.pipeline.steps import find_brain, input_record, with_lesion, without_drawn
from uresnet.preprocess import conform


@pytest.fixture(scope="module", params=list(FIELDS_OF_VIEW.values()), ids=list(FIELDS_OF_VIEW))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain that lies in its file in each way round."""
    path = tmp_path_factory.mktemp("image") / "image.nii.gz"
    return write_nifti(brain_on(request.param), request.param, path)


@pytest.fixture(scope="module")
def segmented(tiny_model: Path, image: Path) -> tuple[Segmentation, list[str]]:
    """The result, and the stages that were told."""
    told: list[str] = []
    return segment(image, model=tiny_model, progress=lambda stage, seconds: told.append(stage)), told


def test_segmenting_alone_gives_the_native_grid(
    segmented: tuple[Segmentation, list[str]], image: Path, tmp_path: Path
) -> None:
    result, _ = segmented
    result.save(tmp_path / "dseg.nii.gz")
    written, like = nib.Nifti1Image.from_filename(tmp_path / "dseg.nii.gz"), nib.Nifti1Image.from_filename(image)
    assert written.shape == like.shape and written.get_data_dtype() == np.int16
    np.testing.assert_allclose(written.affine, like.affine, atol=1e-4)
    counts = {value: int((np.asanyarray(written.dataobj) == value).sum()) for value in (2, 3, 4)}
    voxel = abs(np.linalg.det(like.affine[:3, :3]))
    assert {k: round(v / voxel) for k, v in result.volumes.items()} == counts


def test_the_record_is_of_one_image(segmented: tuple[Segmentation, list[str]], image: Path) -> None:
    record, told = segmented[0].record, segmented[1]
    assert list(record.inputs) == ["image"] and record.inputs["image"].path == str(image)
    assert (record.transform, record.measures, record.command) == (None, None, None)
    assert record.quality is not None and record.quality.signs is not None
    assert list(record.seconds) == ["read", "load model", "find brain", "conform", "recognise", "segment", "total"]
    assert told == [stage for stage in record.seconds if stage != "total" for _ in range(2)]


def ball_in(grid: Grid, radius: float) -> LabelMap:
    """A ball about the middle, ``radius`` in mm."""
    away = np.linalg.norm(grid.points_to_world(np.indices(grid.shape).reshape(3, -1).T) - grid.centre_world, axis=1)
    return LabelMap(torch.from_numpy((away < radius).reshape(grid.shape).astype(np.uint8)), grid)


def test_the_volume_of_what_was_drawn_is_recorded(image: Path) -> None:
    """A ball of 20 mm radius, 33.5 ml, counted on voxels of 1 mm."""
    given = read_image(image)
    found = find_brain(given, None, "none", "cpu")
    conformed = conform(given, found.mask)
    drawn = input_record(found, with_lesion(conformed, ball_in(given.grid, 20)), None).drawn_mm3
    assert drawn == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.05)
    assert input_record(found, conformed, None).drawn_mm3 is None


def test_what_is_drawn_over_changes_nothing_elsewhere(image: Path) -> None:
    given = read_image(image)
    ball = ball_in(given.grid, 20)
    seen = []
    for value in (0.0, 5000.0):
        sick = replace(given, data=torch.where(ball.mask, value, given.data))
        found = find_brain(sick, None, "auto", "cpu")
        shown = without_drawn(sick, ball, found.mask)
        torch.testing.assert_close(shown.data[~ball.mask], given.data[~ball.mask], rtol=0, atol=0)
        inside = shown.data[ball.mask & found.mask.mask]
        rest = float(np.median(given.data[found.mask.mask & ~ball.mask]))
        np.testing.assert_allclose(inside, np.full(len(inside), rest), rtol=1e-4)
        seen.append(conform(shown, found.mask).tensor)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert without_drawn(given, None, found.mask) is given


def test_a_mask_that_lies_outside_of_the_brain_for_a_third_is_told(image: Path) -> None:
    given = read_image(image)
    ball = ball_in(given.grid, 20)
    half = (np.indices(given.grid.shape)[0] > given.grid.shape[0] / 2).astype(np.uint8)
    brain = LabelMap(torch.from_numpy(half), given.grid)
    large = LabelMap(torch.from_numpy(np.ones(given.grid.shape, dtype=np.uint8)), given.grid)
    with pytest.warns(InputWarning, match="% of .* lie outside of the brain that was found"):
        without_drawn(given, ball, brain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without_drawn(given, ball, large)


def test_a_model_that_does_not_segment_is_an_error(image: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "r.safetensors", deforms=True, segmentation=False)
    with pytest.raises(UserError, match="registers only"):
        segment(image, model=model)


def test_the_predicted_t1_lies_where_the_image_lies(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that predicts the negative of what it sees: so is what is written, voxel by voxel, 0 outside."""
    torch.manual_seed(0)
    config = SegmenterConfig(channels=(4, 8), blocks=(1, 1), hidden=8, classes=35, synthesis=6)
    card = ModelCard("small", MIDSPACE, {}, {}, scheme="freesurfer34")
    network = Segmenter(config).eval()
    with torch.no_grad():
        network.head.weight.zero_()  # one structure, as the outlines of noise take seconds to draw
        network.head.bias.view(8, 35)[:, 1] += 9
    model = Model(card, network, SCHEMES["freesurfer34"], COARSE, "")
    evaluated = Segmenter.with_t1
    monkeypatch.setattr("uresnet.coupling.contrast._medians", lambda *_: {})
    monkeypatch.setattr(Segmenter, "with_t1", lambda self, x, _: (*evaluated(self, x)[:2], (1 - x / 2) * (x > 0)))
    result = segment(image, model=model, synthesise=True)
    assert result.predicted_t1 is not None and result.predicted_t1.grid.same_as(result.labels.grid, 1e-6)
    assert any("not a measurement" in sentence for sentence in result.warnings)
    result.save(tmp_path / "out", extras=["t1"])
    page = (tmp_path / "out/predicted_t1.html").read_text(encoding="utf-8")
    assert "<h1>Predicted T1 of image.nii.gz</h1>" in page and "not a measurement" in page
    assert "Volumes</h2>" not in page and "verdict" not in page.split("<main")[1].split("How this result was made")[0]
    found, given = (
        np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj, float)
        for path in (tmp_path / "out/predicted_t1.nii.gz", image)
    )
    inside = ndimage.binary_erosion(given > 0, iterations=3)
    assert np.corrcoef(found[inside], given[inside])[0, 1] < -0.9
    assert found[given == 0].max() == 0
    assert found[inside].min() > 0.4


def test_what_predicts_no_t1_is_told_before_work(
    segmented: tuple[Segmentation, list[str]], image: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="predicts no T1-weighted image"):
        segment(image, model=tiny_model, synthesise=True)
    with pytest.raises(UserError, match="segment with synthesise=True"):
        segmented[0].save(tmp_path / "out", extras=["t1"])
    assert not (tmp_path / "out").exists()
