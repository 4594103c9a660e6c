"""What a run would give away if a part of it broke: each break is made, and must end in a sentence and no file."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from uresnet.cli.main import app
from uresnet.core.image import Image, LabelMap
from uresnet.errors import BrokenResult
from uresnet.model.checkpoint import MIDSPACE
from uresnet.pipeline import invariants
from uresnet.pipeline.register import register
from uresnet.pipeline.save import Registration
from uresnet.results.record import Measures
from uresnet.transform import Composite, DisplacementField

REGISTER, SEGMENT = "uresnet.pipeline.register", "uresnet.pipeline.segment"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    moving = write_nifti(brain_on(FIELDS_OF_VIEW["LAS"], (3.0, -2.0, 4.0)), FIELDS_OF_VIEW["LAS"], folder / "m.nii")
    return moving, write_nifti(brain_on(FIELDS_OF_VIEW["RAS"]), FIELDS_OF_VIEW["RAS"], folder / "f.nii")


@pytest.fixture(scope="module")
def sound(pair: tuple[Path, Path], tiny_model: Path) -> Registration:
    return register(*pair, model=tiny_model)


def with_nan(image: Image) -> Image:
    data = image.data.clone()
    data[5, 6, 7] = float("nan")
    return replace(image, data=data)


def shifted(image: Image | LabelMap) -> Image | LabelMap:
    return replace(image, grid=FIELDS_OF_VIEW["oblique"], data=image.data.new_zeros(FIELDS_OF_VIEW["oblique"].shape))


def strange(labels: LabelMap) -> LabelMap:
    data = labels.data.clone()
    data[3, 3, 3] = 77
    return replace(labels, data=data)


def broken(field: str, change: object, sound: Registration) -> Registration:
    return replace(sound, **{field: change(getattr(sound, field))})  # type: ignore[operator]


def infinite(_: Composite) -> Composite:
    grid = FIELDS_OF_VIEW["RAS"]
    return Composite([DisplacementField(torch.full((3, *grid.shape), float("inf")), grid)])


def without_number(measures: Measures) -> Measures:
    return replace(measures, inverse_max_mm=float("nan"))


BREAKS = {
    "a NaN in the warped image": ("warped", with_nan, "warped image has values"),
    "a NaN in the Jacobian": ("jacobian", with_nan, "Jacobian determinant has values"),
    "a warped image on another grid": ("warped", shifted, "warped image does not lie on the grid"),
    "a moving segmentation on another grid": ("moving_segmentation", shifted, "moving segmentation does not lie"),
    "a warped segmentation on another grid": ("warped_segmentation", shifted, "warped segmentation does not lie"),
    "a label of no scheme": ("fixed_segmentation", strange, "fixed segmentation has the label 77"),
    "an infinite displacement": ("inverse", infinite, "the inverse transform has values"),
    "a measure that is none": ("measures", without_number, "measure of the transform"),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_a_broken_result_is_not_given(name: str, sound: Registration) -> None:
    field, change, sentence = BREAKS[name]
    assert invariants.check_registration(sound) is sound
    with pytest.raises(BrokenResult, match=sentence):
        invariants.check_registration(broken(field, change, sound))


def midspace(sound: Registration, displacement: torch.Tensor, mean: float = 0.0, largest: float = 0.0) -> Registration:
    """A result of the kind that promises to be invertible, with a deformation of its own."""
    record = replace(sound.record, model=replace(sound.record.model, kind=MIDSPACE))
    field = DisplacementField(displacement, sound.fixed.grid)
    measures = replace(sound.measures, inverse_mean_mm=mean, inverse_max_mm=largest)
    return replace(sound, record=record, transform=Composite([field]), inverse=Composite([field]), measures=measures)


def test_no_folds_and_an_inverse_where_they_are_promised(sound: Registration) -> None:
    nothing = torch.zeros((3, *sound.fixed.grid.shape))
    assert invariants.check_registration(midspace(sound, nothing, 0.1, 1.0))
    for mean, largest in ((0.11, 0.2), (0.01, 1.1)):
        with pytest.raises(BrokenResult, match="inverse transform misses by"):
            invariants.check_registration(midspace(sound, nothing, mean, largest))
    folded = nothing.clone()  # two neighbours of a voxel exchanged along i, closed form: slope 1 + (-4 - 0) / 2 < 0
    folded[:, 21, 20, 20] = torch.from_numpy(sound.fixed.grid.voxel_to_world[:3, 0] * -4).float()
    with pytest.raises(BrokenResult, match="the transform folds"):
        invariants.check_registration(midspace(sound, folded))
    other = replace(midspace(sound, folded), record=sound.record)  # the paper's kind promises no such thing
    assert invariants.check_registration(other)


def test_the_command_writes_nothing_and_says_so(pair, tiny_model, tmp_path, monkeypatch) -> None:
    moving, fixed = map(str, pair)
    common = ["--model", str(tiny_model), "--brain", "none", "--no-report", "--quiet"]
    register_line = ["register", moving, fixed, "-o", str(tmp_path / "out"), *common]
    segment_line = ["segment", fixed, "-o", str(tmp_path / "dseg.nii.gz"), *common]
    registering, segmenting = import_module(REGISTER), import_module(SEGMENT)
    resample, native = registering.resample, segmenting.native_labels
    monkeypatch.setattr(
        registering,
        "resample",
        lambda *arguments, **names: (
            with_nan(found) if isinstance(found := resample(*arguments, **names), Image) else found
        ),
    )
    monkeypatch.setattr(segmenting, "native_labels", lambda *arguments: strange(native(*arguments)))
    for line in (register_line, segment_line):
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 1, done.stderr
        assert done.stderr.startswith("error: The result is wrong (the ") and done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
