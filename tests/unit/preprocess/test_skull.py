"""Stripping a real head with deepbet's networks."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from grids import turned
from heads import ROOMY, ball, dice, image_of
from uresnet.core.grid import axis_order
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.preprocess import extract_brain, skull, strip_skull


def test_without_deepbet_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("uresnet.preprocess.skull.importlib.metadata.distribution", absent)
    with pytest.raises(UserError, match="needs deepbet"):
        strip_skull(image_of(ball(ROOMY, 4.0)))


def test_a_network_that_is_not_deepbets_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript is a program; here one whose file is deepbet's but for its last byte."""

    class Elsewhere:
        def locate_file(self, name: str) -> Path:
            return tmp_path / Path(name).name

    genuine = Path(str(importlib.metadata.distribution("deepbet").locate_file("data/models/bbox_model.pt")))
    (tmp_path / "bbox_model.pt").write_bytes(genuine.read_bytes()[:-1] + b"x")
    monkeypatch.setattr("uresnet.preprocess.skull.importlib.metadata.distribution", lambda name: Elsewhere())
    monkeypatch.setattr(skull._JIT, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match=r"is not a network of deepbet 1\.0\.2, and is not run"):
        strip_skull(image_of(ball(ROOMY, 4.0)))


def test_deepbet_itself_is_not_imported() -> None:
    """Its weights are used; its interface and the libraries it fills holes with are not."""
    code = (
        "import sys, uresnet.preprocess.skull as b; b._network('bbox_model.pt', 'cpu'); "
        "print(sorted(m for m in ('deepbet', 'cc3d', 'fill_voids', 'customtkinter', 'pandas') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.fixture(scope="module")
def raw_head(shared_data: Path) -> tuple[Image, np.ndarray]:
    """A head and FreeSurfer's brain mask, at 2 mm so that the tests below stay short."""
    folder = shared_data / "freesurfer_subject" / "sub-0001" / "mri"
    image, mask = read_image(folder / "orig.mgz"), read_labels(folder / "brainmask.mgz").mask
    half = image.data.reshape(128, 2, 128, 2, 128, 2).mean(dim=(1, 3, 5))
    share = mask.float().reshape(128, 2, 128, 2, 128, 2).mean(dim=(1, 3, 5))
    return Image(half, image.grid.rescaled(2), "orig.mgz"), (share > 0.5).numpy()


@pytest.fixture(scope="module")
def stripped(raw_head: tuple[Image, np.ndarray]) -> np.ndarray:
    found, how = extract_brain(raw_head[0])
    assert how == "skull found and stripped with deepbet"
    return found.mask.numpy()


def test_a_stripped_brain_is_one_whole_piece(raw_head: tuple[Image, np.ndarray], stripped: np.ndarray) -> None:
    assert dice(stripped, raw_head[1]) > 0.95
    assert ndimage.label(stripped, np.ones((3, 3, 3)))[1] == 1
    np.testing.assert_array_equal(ndimage.binary_fill_holes(stripped), stripped)


def test_stripping_is_repeatable_however_a_head_is_stored(
    raw_head: tuple[Image, np.ndarray], stripped: np.ndarray, capfd: pytest.CaptureFixture
) -> None:
    """The same head with its axes in another order and its matrix tilted: the same brain, to the voxel, in silence."""
    image, _ = raw_head
    codes = ("P", "S", "R")
    order, sign = axis_order(image.grid.axis_codes, codes)
    steps = tuple(slice(None, None, s) for s in sign)
    stored = turned(image.grid.reoriented(codes), (8, -12, 5))
    data = np.ascontiguousarray(image.data.numpy().transpose(order)[steps])
    got = strip_skull(Image(torch.from_numpy(data), stored))
    np.testing.assert_array_equal(got, stripped.transpose(order)[steps])
    assert capfd.readouterr() == ("", "")


def test_threads_are_put_back(raw_head: tuple[Image, np.ndarray]) -> None:
    before = torch.get_num_threads()
    with skull._number_of_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
