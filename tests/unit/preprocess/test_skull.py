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


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.6, 2.0, 5.0])
def test_voxels_of_2_mm_keep_a_ramp(zoom: float) -> None:
    """In both directions, away from the ends; both kinds of voxel are counted from the common centre."""
    n = 60
    own = (np.arange(n) - (n - 1) / 2) * zoom
    averages, back = skull._averages(n, zoom, "cpu").numpy(), skull._interpolation(n, zoom, "cpu").numpy()
    count = len(averages)
    assert count == int(np.ceil(n * zoom / 2)) and averages.shape == back.T.shape
    wide = (np.arange(count) - (count - 1) / 2) * 2
    inside = np.abs(wide) < own[-1] - 1
    np.testing.assert_allclose((averages @ own)[inside], wide[inside], atol=1e-3)
    seen = np.abs(own) <= wide[-1]
    np.testing.assert_allclose((back @ wide)[seen], own[seen], atol=1e-3)
    np.testing.assert_allclose(back.sum(axis=1), 1, atol=1e-5)


def test_a_voxel_of_2_mm_is_the_mean_of_what_lies_in_it() -> None:
    """By hand: voxels of 1 mm at -1.5, -0.5, 0.5, 1.5; the wide voxel at -1 is read at -1.75, -1.25, -0.75 and -0.25,
    where the four have the weights 3/4; 3/4, 1/4; 1/4, 3/4; and 3/4, 1/4 (of the second and third); half a millimetre
    outside counts as 0."""
    averages = skull._averages(4, 1.0, "cpu").numpy()
    np.testing.assert_allclose(averages[0], [1.75 / 4, 1.75 / 4, 0.25 / 4, 0], atol=1e-6)
    np.testing.assert_allclose(averages[1], averages[0][::-1], atol=1e-6)


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
