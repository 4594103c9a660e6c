"""The Slicer module against an imitation of the parts of Slicer that it calls: volumes go in as Slicer holds them, and
the right files are loaded and the transform applied."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brains import FIELDS_OF_VIEW, brain_on
from uresnet.core.grid import Grid
from uresnet.transform_files import read_transform

MODULE = Path(__file__).resolve().parents[3] / "contrib/slicer/UresnetRegister/UresnetRegister.py"


class Matrix:
    """vtkMatrix4x4, as far as it is used."""

    def __init__(self) -> None:
        self.values = np.eye(4)

    def GetElement(self, row: int, column: int) -> float:
        return float(self.values[row, column])


class Node:
    """A node of the scene; a volume where it has a ``grid``."""

    def __init__(self, name: str, grid: Grid | None = None) -> None:
        self.name, self.grid = name, grid
        self.transform: str | None = None

    def GetName(self) -> str:
        return self.name

    def SetName(self, name: str) -> None:
        self.name = name

    def GetID(self) -> str:
        return f"id of {self.name}"

    def GetIJKToRASMatrix(self, matrix: Matrix) -> None:
        matrix.values = self.grid.voxel_to_world

    def SetAndObserveTransformNodeID(self, identity: str) -> None:
        self.transform = identity


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The imitation, which remembers what was loaded."""
    loaded: dict[str, Any] = {}

    def load(kind: str, path: str) -> Node:
        loaded[Path(path).name] = read_transform(path) if kind == "transform" else nib.Nifti1Image.from_filename(path)
        if kind != "transform":
            np.asanyarray(loaded[Path(path).name].dataobj)  # the folder is gone soon
        return Node(Path(path).name)

    util = SimpleNamespace(
        arrayFromVolume=lambda node: brain_on(node.grid).transpose(2, 1, 0),  # Slicer's arrays are (K, J, I)
        loadTransform=lambda path: load("transform", path),
        loadSegmentation=lambda path: load("segmentation", path),
        setSliceViewerLayers=lambda **layers: loaded.update(layers),
    )
    fake: Any = ModuleType("slicer")
    fake.util, fake.loaded = util, loaded
    scripted: Any = ModuleType("slicer.ScriptedLoadableModule")
    for name in ("ScriptedLoadableModule", "ScriptedLoadableModuleLogic", "ScriptedLoadableModuleWidget"):
        setattr(scripted, name, type(name, (), {"__init__": lambda self, *_: None}))
    vtk: Any = ModuleType("vtk")
    vtk.vtkMatrix4x4 = Matrix
    for name, module in (("slicer", fake), ("slicer.ScriptedLoadableModule", scripted), ("vtk", vtk)):
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_two_volumes_are_registered_and_the_result_is_loaded(slicer: Any, tiny_model: Path) -> None:
    spec = importlib.util.spec_from_file_location("UresnetRegister", MODULE)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    moving, fixed = Node("m", FIELDS_OF_VIEW["oblique"]), Node("f", FIELDS_OF_VIEW["LPS"])
    array, affine = module.image_of(moving)
    assert array.shape == moving.grid.shape
    np.testing.assert_array_equal(affine, moving.grid.voxel_to_world)
    said: list[str] = []
    verdict = module.UresnetRegisterLogic().register(moving, fixed, say=said.append, model=tiny_model)
    assert verdict.split(":")[0] in ("good", "look", "failed") and "read …" in said
    assert moving.transform == "id of m to f" and fixed.transform is None
    assert slicer.loaded["fixed_dseg.nii.gz"].shape == fixed.grid.shape
    assert slicer.loaded["moving_dseg.nii.gz"].shape == moving.grid.shape
    assert slicer.loaded["transform.h5"].apply([[0.0, 0.0, 0.0]]).shape == (1, 3)
    assert slicer.loaded["background"] is fixed and slicer.loaded["foreground"] is moving
