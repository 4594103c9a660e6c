"""NRRD and MetaImage, as SimpleITK writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.io import read_grid, read_image, write_image


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_what_itk_wrote_is_read(grid: Grid, suffix: str, tmp_path: Path) -> None:
    image = Image(torch.from_numpy(np.random.default_rng(1).normal(100, 30, grid.shape)), grid)
    write_image(image, tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / f"b{suffix}"))
    back = read_image(tmp_path / f"b{suffix}")
    assert torch.equal(back.data, image.data)
    assert back.grid.same_as(grid)
    assert read_grid(tmp_path / f"b{suffix}").same_as(grid)


def test_without_simpleitk_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(UserError, match="needs SimpleITK"):
        read_image(tmp_path / "a.nrrd")
