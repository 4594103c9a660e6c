"""The examples in the docstrings of what is public run, on small images and a tiny model."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import uresnet
from brains import FIELDS_OF_VIEW, brain_on, write_nifti, write_tiny_model
from uresnet.config import ConformSpec
from uresnet.model import catalogue
from uresnet.pipeline.shown import Shown
from uresnet.results.held import Held
from uresnet.transform import Transform

PUBLIC: dict[str, Any] = {name: getattr(uresnet, name) for name in uresnet.__all__} | {
    "uresnet": uresnet,
    "Held": Held,
    "Shown": Shown,
    "Transform.apply": Transform.apply,
}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With voxels of 5 mm: the numbers in docstrings are of this one."""
    spec = ConformSpec(shape=(32, 32, 40), zooms=(5.0, 5.0, 5.0))
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", deforms=True, spec=spec)


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: two images, a third one, a transform and a label map."""
    folder = tmp_path_factory.mktemp("examples")
    for name, view in (("moving", "RAS"), ("fixed", "LPS"), ("image", "LAS")):
        grid = FIELDS_OF_VIEW[view]
        write_nifti(brain_on(grid), grid, folder / f"{name}.nii.gz")
    result = uresnet.register(folder / "moving.nii.gz", folder / "fixed.nii.gz", model=tiny_model)
    for path in result.save(folder / "made", report=False):
        if path.name in ("transform.h5", "moving_dseg.nii.gz"):
            path.rename(folder / path.name)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = catalogue.read_model_file(tiny_model)
    monkeypatch.setattr(catalogue, "packaged_models", lambda: {"tiny": tiny})
    monkeypatch.chdir(folder)
    finder = doctest.DocTestFinder(recurse=inspect.isclass(PUBLIC[name]))
    tests = [test for test in finder.find(PUBLIC[name], name, globs={}) if test.examples]
    assert tests or name in ("InputWarning", "Level"), f"uresnet.{name} has no example"
    for test in tests:
        report: list[str] = []
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append).failed
        assert not failed, "".join(report)
