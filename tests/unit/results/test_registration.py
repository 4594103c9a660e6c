"""A pair that is read back from its folder is the pair that was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from report_results import made_up_results, write_folder
from uresnet.errors import UserError
from uresnet.io import write_image
from uresnet.results.registration import RegisteredPair, read_registered_pair


@pytest.fixture(scope="module")
def pair() -> RegisteredPair:
    return made_up_results()


@pytest.fixture
def folder(pair: RegisteredPair, tmp_path: Path) -> Path:
    return write_folder(pair, tmp_path / "out")


def test_a_pair_is_read_back(pair: RegisteredPair, folder: Path) -> None:
    found = read_registered_pair(folder)
    for name in ("moving", "fixed", "warped", "jacobian"):
        written, read = getattr(pair, name), getattr(found, name)
        torch.testing.assert_close(read.data, written.data, atol=1e-3, rtol=0)
        assert read.grid.same_as(written.grid)
    for name in ("moving_segmentation", "fixed_segmentation", "warped_segmentation"):
        assert torch.equal(getattr(found, name).data.int(), getattr(pair, name).data.int())
    assert found.scheme is pair.scheme
    assert set(found.volumes) == {"moving", "fixed"}
    for name, volumes in pair.volumes.items():
        assert found.volumes[name] == pytest.approx(volumes, rel=1e-5)
    assert found.warnings == pair.warnings
    points = torch.tensor([[70.0, -120.0, 300.0], [60.0, -100.0, 310.0]], dtype=torch.float64)
    torch.testing.assert_close(found.transform.apply(points), pair.transform.apply(points), atol=1e-2, rtol=0)


def test_images_that_are_gone_or_replaced_are_none(pair: RegisteredPair, folder: Path) -> None:
    assert pair.fixed is not None
    (folder.parent / "fixed.nii.gz").unlink()
    write_image(pair.fixed, folder.parent / "moving.nii.gz")  # another image under the old name
    found = read_registered_pair(folder)
    assert found.moving is None and found.fixed is None
    assert found.background is found.warped


def test_images_may_have_moved(pair: RegisteredPair, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.nii.gz"
    (folder.parent / "moving.nii.gz").rename(elsewhere)
    assert read_registered_pair(folder).moving is None
    assert read_registered_pair(folder, moving=elsewhere).moving is not None
    with pytest.raises(UserError, match="not the fixed image"):
        read_registered_pair(folder, fixed=elsewhere)


def test_a_folder_that_holds_no_registration_is_an_error(folder: Path) -> None:
    (folder / "warped.nii.gz").unlink()
    with pytest.raises(UserError, match=r"has no warped\.nii\.gz, which a page needs"):
        read_registered_pair(folder)
