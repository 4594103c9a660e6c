"""uresnet inside MONAI, TorchIO and nipype: the same result as its own functions, where the libraries are installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from uresnet import LabelMap, Registration, register, segment


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, found = tmp_path_factory.mktemp("pair"), []
    for name, view in (("moving", "oblique"), ("fixed", "LAS")):
        grid = FIELDS_OF_VIEW[view]
        found.append(write_nifti(brain_on(grid), grid, folder / f"{name}.nii.gz"))
    return found[0], found[1]


@pytest.fixture(scope="module")
def expected(files: tuple[Path, Path], tiny_model: Path) -> Registration:
    return register(*files, model=tiny_model)


@pytest.fixture(scope="module")
def segmented(files: tuple[Path, Path], tiny_model: Path) -> LabelMap:
    return segment(files[0], model=tiny_model).labels


def test_monai(files: tuple[Path, Path], tiny_model: Path, expected: Registration, segmented: LabelMap) -> None:
    transforms = pytest.importorskip("monai.transforms")
    from uresnet.integrations.monai import RegisterTo, Segment

    load = transforms.LoadImage(image_only=True, reader="NibabelReader", ensure_channel_first=True)
    warp = RegisterTo(files[1], model=tiny_model)
    out = transforms.Compose([load, warp])(files[0])
    np.testing.assert_allclose(out.numpy()[0], expected.warped.data.numpy(), atol=0.02)
    np.testing.assert_allclose(out.affine, expected.warped.grid.voxel_to_world)
    assert warp.result.verdict is not None
    labels = Segment(model=tiny_model)(load(files[0]))
    np.testing.assert_array_equal(labels.numpy()[0], segmented.data.numpy())


def test_torchio(
    files: tuple[Path, Path], tiny_model: Path, expected: Registration, segmented: LabelMap, tmp_path: Path
) -> None:
    tio = pytest.importorskip("torchio")
    from uresnet.integrations.torchio import RegisterTo, Segment

    mask = nib.Nifti1Image.from_filename(files[0])
    nib.save(nib.Nifti1Image((mask.get_fdata() > 0).astype(np.uint8), mask.affine), tmp_path / "mask.nii.gz")
    subject = tio.Subject(t1=tio.ScalarImage(files[0]), mask=tio.LabelMap(tmp_path / "mask.nii.gz"))
    out = RegisterTo(files[1], model=tiny_model)(subject)
    np.testing.assert_allclose(out.t1.data.numpy()[0], expected.warped.data.numpy(), atol=0.02)
    np.testing.assert_allclose(out.mask.affine, expected.warped.grid.voxel_to_world)
    assert set(np.unique(out.mask.data)) == {0, 1}
    out = Segment(key="seg", model=tiny_model)(subject)
    # TorchIO reads an oblique affine by other library calls, to the seventh digit: a class may change at a tie.
    assert float(np.mean(out.seg.data.numpy()[0] != segmented.data.numpy())) < 5e-3


def test_nipype(files: tuple[Path, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nipype")
    from uresnet.integrations.nipype import Register, Segment

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    node = Register(moving=files[0], fixed=files[1], model=str(tiny_model), transform="affine", threads=1)
    assert node.cmdline.startswith("uresnet register ") and "--transform affine" in node.cmdline
    outputs = node.run().outputs
    assert nib.Nifti1Image.from_filename(outputs.warped).shape == FIELDS_OF_VIEW["LAS"].shape
    assert Path(outputs.transform).name == "transform.h5" and Path(outputs.record).is_file()
    assert "--brain-mask" in Segment(image=files[0], brain_mask=files[1]).cmdline
