"""Telling a head from a brain: made-up ones for the rules, real ones for the networks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import ndimage

from grids import made_from_scratch
from heads import ROOMY, ball, image_of
from uresnet.core.grid import Grid, directions
from uresnet.core.image import Image, LabelMap
from uresnet.errors import InputWarning, UserError
from uresnet.io import read_image
from uresnet.preprocess import extract_brain, find_foreground, has_skull, skull


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that would look inside the image although its size says enough."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("uresnet.preprocess.skull._network", refuse)


# -- skull or not ----------------------------------------------------------------------------------------------------


def has_skull_in(image: Image) -> bool:
    return has_skull(image, find_foreground(image))


@pytest.mark.parametrize(("litres", "head"), [(0.9, False), (1.4, False), (2.0, False), (3.0, True), (4.5, True)])
@pytest.mark.usefixtures("no_network")
def test_size_decides_where_it_can(litres: float, head: bool) -> None:
    assert has_skull_in(image_of(ball(ROOMY, litres))) is head


@pytest.mark.usefixtures("no_network")
def test_a_head_without_constant_background() -> None:
    assert has_skull_in(image_of(np.ones(ROOMY.shape, bool)))


@pytest.mark.parametrize(("share", "head"), [(0.95, False), (0.5, True)])
def test_where_size_does_not_decide_the_network_does(share: float, head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = ball(ROOMY, 2.4)
    monkeypatch.setattr("uresnet.preprocess.brain.strip_skull", lambda *_: ball(ROOMY, 2.4 * share))
    assert has_skull_in(image_of(mask)) is head


# -- what is asked of an image ---------------------------------------------------------------------------------------


def test_none_takes_everything_that_is_not_background() -> None:
    mask = ball(ROOMY, 4.0)
    found, how = extract_brain(image_of(mask), "none")
    np.testing.assert_array_equal(found.mask.numpy(), mask)
    assert found.grid is ROOMY
    assert "not background" in how


def test_a_given_mask_is_used_as_it_is() -> None:
    given = LabelMap(torch.from_numpy(ball(ROOMY, 0.02).astype(np.int16) * 41), ROOMY, "mine.nii.gz")
    found, how = extract_brain(image_of(ball(ROOMY, 4.0)), mask=given)
    assert torch.equal(found.mask, given.mask)
    assert "mine.nii.gz" in how


def test_a_mask_must_fit() -> None:
    image = image_of(ball(ROOMY, 1.4))
    ones = torch.ones(ROOMY.shape, dtype=torch.uint8)
    shifted = ROOMY.voxel_to_world.copy()
    shifted[1, 3] += 1
    with pytest.raises(UserError, match=r"mine\.nii lies on another grid"):
        extract_brain(image, mask=LabelMap(ones, Grid(ROOMY.shape, shifted), "mine.nii"))
    with pytest.raises(UserError, match=r"mine\.nii lies on another grid"):
        extract_brain(image, mask=LabelMap(ones[:-1], Grid((99, 110, 90), ROOMY.voxel_to_world), "mine.nii"))
    with pytest.raises(UserError, match=r"mine\.nii is empty"):
        extract_brain(image, mask=LabelMap(ones * 0, ROOMY, "mine.nii"))


@pytest.mark.parametrize(
    ("shape", "zooms", "words"),
    [
        ((100, 100, 4), (2, 2, 2), "only 4 slices"),
        ((7, 5, 3), (2, 2, 2), "only 3 slices"),
        ((100, 100, 12), (2, 2, 2), "covers only 24 mm"),
        ((16, 16, 16), (12, 12, 12), "voxels of 12.0 mm"),
    ],
)
def test_what_is_no_whole_brain(shape: tuple, zooms: tuple, words: str) -> None:
    grid = made_from_scratch(shape, zooms, "LPS", (0, 0, 0))
    with pytest.raises(UserError, match=words):
        extract_brain(Image(torch.rand(shape), grid, "a.nii"))


def test_coarse_voxels_are_warned_about() -> None:
    grid = made_from_scratch((40, 40, 40), (5, 5, 5), "LPS", (0, 0, 0))
    with pytest.warns(InputWarning, match="voxels of 5.0 mm"):
        extract_brain(image_of(ball(grid, 1.4), grid))


@pytest.mark.parametrize("litres", [0.1])
def test_a_brain_of_no_possible_size(litres: float) -> None:
    with pytest.raises(UserError, match=r"brain of 0\.10 litres"):
        extract_brain(image_of(ball(ROOMY, litres)))


def test_an_unknown_method() -> None:
    with pytest.raises(UserError, match="auto, none"):
        extract_brain(image_of(ball(ROOMY, 1.4)), "hd-bet")  # type: ignore[arg-type]


def damaged(where: np.ndarray) -> Image:
    image = image_of(ball(ROOMY, 1.4))
    return Image(torch.where(torch.from_numpy(where), 0, image.data), ROOMY, "a.nii", torch.from_numpy(where))


def test_missing_numbers_matter_only_in_the_brain() -> None:
    one = np.zeros(ROOMY.shape, bool)
    one[50, 55, 45] = True
    with pytest.raises(UserError, match="in the brain that are not a number or infinite"):
        extract_brain(damaged(one))
    with pytest.raises(UserError, match="in the brain that are not a number or infinite"):
        extract_brain(damaged(ball(ROOMY, 0.02)))
    corner = np.zeros(ROOMY.shape, bool)
    corner[5, 5, 5] = True
    np.testing.assert_array_equal(extract_brain(damaged(corner))[0].mask.numpy(), ball(ROOMY, 1.4))
    # Everything outside the brain, as some programs write background.
    np.testing.assert_array_equal(extract_brain(damaged(~ball(ROOMY, 1.4)))[0].mask.numpy(), ball(ROOMY, 1.4))


# -- real images -----------------------------------------------------------------------------------------------------


STRIPPED = [
    *(f"freesurfer_subject/sub-0001/mri/{name}.mgz" for name in ("norm", "brainmask")),
    *(f"lesions/patient{name}.nii.gz" for name in ("07_T1", "07_FLAIR", "19_FLAIR")),
    *(f"oasis_malf/{n}_T1.nii.gz" for n in (1000, 1003, 1012, 1036, 1101, 1107, 1113, 1119, 1125)),
    "odd_inputs/FLAIR.nrrd",
]


@pytest.mark.parametrize("name", STRIPPED)
@pytest.mark.usefixtures("no_network")
def test_stripped_brains_are_left_alone(name: str, shared_data: Path) -> None:
    image = read_image(shared_data / name)
    found, how = extract_brain(image)
    assert how == "no skull found, image used as it is"
    outside = ~found.mask
    assert float((image.data[outside] != 0).float().mean()) < 1e-4


def test_the_rim_that_resampling_left_on_a_patient_is_trimmed_and_nothing_else(shared_data: Path) -> None:
    image = read_image(shared_data / "lesions/patient19_T1.nii.gz")  # stripped, then brought to MNI space
    found, how = extract_brain(image)
    assert how == "no skull found, image used as it is"
    filled = (image.data != 0).numpy()
    trimmed = filled & ~found.mask.numpy()
    core = ndimage.binary_erosion(ndimage.binary_fill_holes(filled), iterations=3)
    assert not (trimmed & core).any()
    values = image.data.numpy()
    assert np.percentile(values[trimmed], 95) < 0.5 * np.median(values[core])


HEADS = {
    "raw_head_thick_slices.nii.gz": (1.1, 1.6),
    "small.mha": (0.8, 1.4),
}


@pytest.mark.parametrize("name", HEADS)
def test_odd_heads_are_stripped(name: str, shared_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        image = read_image(shared_data / "odd_inputs" / name)
    found, how = extract_brain(image)
    assert "stripped" in how
    low, high = HEADS[name]
    assert low < float(found.mask.sum()) * image.grid.voxel_volume / 1e6 < high


REFUSED = {
    "all_zero.nii.gz": "only zeros",
    "low_res.nii.gz": "only 3 slices",
    "nan_block.nii.gz": r"not a number or infinite \(8000\)",
    "slab_4_slices.nii.gz": "only 4 slices",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("method", ["auto", "none"])
@pytest.mark.usefixtures("no_network")
def test_odd_inputs_that_hold_no_brain(name: str, method: Literal["auto", "none"], shared_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        image = read_image(shared_data / "odd_inputs" / name)
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        extract_brain(image, method)
    assert str(caught.value).startswith(str(shared_data / "odd_inputs" / name))


def test_a_file_without_orientation_gives_the_result_it_would_give_with_one(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same head with and without qform and sform: the network sees the same, and it lies on the same voxels.

    The one with orientation also has an infinite voxel outside the brain, which changes nothing either. Of the 24 ways
    that a head may lie, every third is tried, among them the right one: each is a pass of the network.
    """
    tried = [codes for codes in skull._all_axes() if np.linalg.det(directions(codes)) < 0][2::3]
    assert {("P", "S", "R"), ("L", "A", "S")} < set(tried)
    monkeypatch.setattr(skull, "_all_axes", lambda: tried)
    from uresnet.core.grid import voxel_to_voxel
    from uresnet.preprocess import conform

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        images = [read_image(shared_data / "odd_inputs" / f"{n}.nii.gz") for n in ("no_qform_sform", "one_inf")]
        masks = [extract_brain(image)[0] for image in images]
    silent, spoken = (conform(image, mask) for image, mask in zip(images, masks, strict=True))
    assert masks[0].axis_codes == images[1].grid.axis_codes
    assert 1.4 < float(masks[1].mask.sum()) * images[1].grid.voxel_volume / 1e6 < 1.9
    assert torch.equal(silent.tensor, spoken.tensor)
    np.testing.assert_allclose(
        voxel_to_voxel(silent.grid, images[0].grid), voxel_to_voxel(spoken.grid, images[1].grid), atol=1e-9
    )


def test_the_public_brains(real_brains: tuple[Path, Path]) -> None:
    colin, template = (read_image(path) for path in real_brains)
    found, how = extract_brain(colin)
    assert "stripped" in how
    assert 1.6 < float(found.mask.sum()) * colin.grid.voxel_volume / 1e6 < 2.1
    assert extract_brain(template)[1] == "no skull found, image used as it is"
