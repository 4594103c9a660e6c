"""Stripping a real head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from grids import turned
from heads import ROOMY, dice, image_of
from uresnet.core.grid import axis_order
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.model import catalogue
from uresnet.model.catalogue import brain_finder, find_model, packaged_models
from uresnet.preprocess import extract_brain, skull, strip_skull


def test_an_installation_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_packaged", tuple)
    with pytest.raises(UserError, match="carries no network that finds brains"):
        brain_finder()


def test_the_network_is_no_model_for_a_pair() -> None:
    finder = brain_finder()
    assert finder.name not in packaged_models()
    with pytest.raises(UserError, match="neither registers nor segments"):
        find_model(finder.path)


def test_no_brain_no_mask() -> None:
    with pytest.raises(UserError, match="shows no brain"):
        strip_skull(image_of(np.zeros(ROOMY.shape, bool)))


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
    assert how == "skull found and stripped"
    return found.mask.numpy()


def test_a_stripped_brain_is_one_whole_piece(raw_head: tuple[Image, np.ndarray], stripped: np.ndarray) -> None:
    assert dice(stripped, raw_head[1]) > 0.96
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


def test_contrast_does_not_matter(raw_head: tuple[Image, np.ndarray], stripped: np.ndarray) -> None:
    """The same head with dark and bright exchanged."""
    image, _ = raw_head
    inverted = Image(image.data.max() - image.data, image.grid, image.path)
    assert dice(strip_skull(inverted), stripped) > 0.95
