"""Conforming against the published model's own figures, nibabel, scipy and numbers worked out by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from grids import GRIDS, made_from_scratch, turned
from uresnet.config import ConformSpec
from uresnet.core.grid import Grid, voxel_to_voxel
from uresnet.core.image import Image, LabelMap, ProbabilityMap
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.preprocess import Conformed, conform, conform_pair, extract_brain

SMALL = ConformSpec(shape=(24, 28, 32))
WAYS = ["RAS", "LAS", "LPS", "LIA", "PSR", "IRP"]


def brain_like(grid: Grid, radii_mm: tuple[float, float, float] = (7, 9, 8), at: tuple = (0, 0, 0)) -> Image:
    """An ellipsoid around the middle of the grid (``at`` mm beside it), brighter to the right, front and top."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    away = grid.points_to_world(voxels) - grid.centre_world - at
    inside = np.linalg.norm(away / np.array(radii_mm), axis=-1) <= 1
    return Image(torch.from_numpy(np.where(inside, 100 + away @ [1.0, 2.0, 3.0], 0)), grid)


def natively(conformed: Conformed, grid: Grid) -> np.ndarray:
    """The conformed intensities on another grid, trilinear, by scipy."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=0).reshape(3, -1)
    to_network = voxel_to_voxel(grid, conformed.grid)
    where = to_network[:3, :3] @ voxels + to_network[:3, 3:]
    return ndimage.map_coordinates(conformed.tensor[0, 0].numpy(), where, order=1).reshape(grid.shape)


# -- whole voxels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", WAYS)
def test_turned_voxels_are_copied_exactly(codes: str) -> None:
    """Whatever way round 1 mm voxels are stored, the network sees the same, and every voxel has its own intensity."""
    stored = made_from_scratch((26, 30, 28), (1, 1, 1), "LIA", (11.0, -40.0, 300.0))
    reference = brain_like(stored, at=(1.2, -0.7, 2.3))
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(stored.voxel_to_world), nib.orientations.axcodes2ornt(codes)
    )
    other = nib.Nifti1Image(reference.data.numpy(), stored.voxel_to_world).as_reoriented(turn)
    image = Image(torch.from_numpy(np.ascontiguousarray(other.dataobj)), Grid(other.shape, other.affine))
    expected, got = conform(reference, spec=SMALL), conform(image, spec=SMALL)
    assert torch.equal(got.tensor, expected.tensor)
    assert got.grid.same_as(expected.grid, 1e-6)
    assert got.notes == ["voxels copied without interpolation"]
    # Every voxel of the brain: its intensity, mapped by one straight line, at its own place in the world.
    inside = image.data.numpy() != 0
    scaled = natively(got, image.grid)[inside]
    line = np.polyfit(image.data.numpy()[inside], scaled, 1)
    np.testing.assert_allclose(np.polyval(line, image.data.numpy()[inside]), scaled, atol=1e-5)
    assert int(got.brain_mask.sum()) == int(inside.sum())


def test_the_centre_is_the_centre_of_mass_rounded_down() -> None:
    data = torch.zeros(20, 20, 20)
    data[3:6, 4:6, 10] = torch.arange(1.0, 7.0).reshape(3, 2)  # centre of mass (4, 4.5, 10)
    image = Image(data, made_from_scratch((20, 20, 20), (1, 1, 1), "LIA", (0, 0, 0)))
    conformed = conform(image, spec=ConformSpec(shape=(8, 12, 16)))
    # Voxel (4, 4, 10) goes to (4, 6, 8).
    assert conformed.grid.shape == (8, 12, 16)
    np.testing.assert_allclose(conformed.grid.points_to_world([4, 6, 8]), image.grid.points_to_world([4, 4, 10]))
    np.testing.assert_array_equal(np.argwhere(conformed.brain_mask.numpy()).min(axis=0), [3, 6, 8])


def test_normalisation_by_hand() -> None:
    data = torch.zeros(20, 20, 20)
    data[5, 5, 5:9] = torch.tensor([10.0, 20, 30, 40])  # mean 25, standard deviation 11.18; background at -2.236
    image = Image(data, made_from_scratch((20, 20, 20), (1, 1, 1), "LIA", (0, 0, 0)))
    conformed = conform(image, spec=ConformSpec(shape=(8, 8, 8)))
    np.testing.assert_allclose(conformed.tensor[0, 0][conformed.brain_mask], [0.25, 0.5, 0.75, 1], atol=1e-6)
    assert conformed.tensor.shape == (1, 1, 8, 8, 8)
    assert conformed.tensor.dtype == torch.float32
    assert float(conformed.tensor.sum()) == pytest.approx(2.5)


def test_intensities_beyond_five_deviations_are_cut() -> None:
    image = brain_like(made_from_scratch((24, 24, 24), (1, 1, 1), "LIA", (0, 0, 0)))
    data = image.data.clone()
    data[12, 12, 12] = 1e5
    conformed = conform(Image(data, image.grid), spec=SMALL)
    brain = data[data != 0].double()
    z = (brain - brain.mean()) / brain.std(unbiased=False)
    low = (0 - brain.mean()) / brain.std(unbiased=False)
    expected = ((z.clamp(-5, 5) - low) / (5 - low)).sort().values
    np.testing.assert_allclose(conformed.tensor[0, 0][conformed.brain_mask].sort().values, expected, atol=1e-6)


# -- interpolation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRIDS)
def test_other_voxels_are_interpolated_in_place(name: str) -> None:
    grid = turned(GRIDS[name], (3, 5, -4)).rescaled(0.5)
    image = brain_like(grid, radii_mm=(3.2, 3.6, 3.0), at=(0.3, -0.2, 0.4))
    conformed = conform(image, spec=replace(SMALL, zooms=(0.5, 0.4, 0.3)))
    assert conformed.grid.axis_codes == ("L", "I", "A")
    np.testing.assert_allclose(conformed.grid.zooms, (0.5, 0.4, 0.3))
    # World-aligned, and the brain's centre of mass where copying puts it on average.
    brain = np.argwhere(image.data.numpy() != 0)
    middle = conformed.grid.points_to_voxel(grid.points_to_world(brain.mean(axis=0)))
    np.testing.assert_allclose(middle, np.array(conformed.grid.shape) // 2 + 0.5, atol=1e-9)
    # By scipy, from float64 coordinates.
    voxels = np.stack(np.meshgrid(*map(np.arange, conformed.grid.shape), indexing="ij"), axis=-1)
    where = np.moveaxis(grid.points_to_voxel(conformed.grid.points_to_world(voxels)), -1, 0)
    expected = ndimage.map_coordinates(image.data.double().numpy(), where, order=1, mode="grid-constant")
    weight = ndimage.map_coordinates((image.data.numpy() != 0).astype(float), where, order=1, mode="grid-constant")
    mask = conformed.brain_mask.numpy()
    sure = np.abs(weight - 0.5) > 1e-3
    np.testing.assert_array_equal(mask[sure], weight[sure] > 0.5)
    line = np.polyfit(expected[mask], conformed.tensor[0, 0].numpy()[mask], 1)
    np.testing.assert_allclose(np.polyval(line, expected[mask]), conformed.tensor[0, 0].numpy()[mask], atol=2e-4)
    assert conformed.notes[0].startswith("resampled to 0.5 × 0.4 × 0.3 mm in LIA axes")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_there_and_back_is_the_same_brain(name: str, shift: float) -> None:
    """Labels predicted on the network's grid come back to the voxels they were drawn on."""
    grid = GRIDS[name].rescaled(0.5)
    image = brain_like(grid, radii_mm=(3.2, 3.6, 3.0), at=(0.3, -0.2, 0.4))
    far = grid.voxel_to_world.copy()
    far[:3, 3] += shift * np.array([7, -5, 3])
    image = Image(image.data, Grid(grid.shape, far))
    conformed = conform(image, spec=replace(SMALL, zooms=(0.3, 0.3, 0.3)))
    inside = conformed.brain_mask.float()
    back = ProbabilityMap(torch.stack([1 - inside, inside]), conformed.grid).classes_on(image.grid).numpy() == 1
    brain = image.data.numpy() != 0
    assert 2 * (back & brain).sum() / (back.sum() + brain.sum()) > 0.93
    core = ndimage.binary_erosion(brain)
    assert back[core].all()


# -- growing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["copied", *GRIDS])
def test_the_grid_grows_rather_than_cut_the_brain(name: str) -> None:
    if name == "copied":
        grid = made_from_scratch((40, 30, 30), (1, 1, 1), "RAS", (0, 0, 0))
        image, spec = brain_like(grid, (19, 14, 14)), ConformSpec(shape=(8, 8, 8))
    else:
        grid = GRIDS[name].rescaled(0.5)
        image, spec = brain_like(grid, (4, 4.5, 4)), ConformSpec(shape=(8, 8, 8), zooms=(0.25, 0.3, 0.35))
    # A lopsided brain, whose centre of mass is not the middle of its box, up to the border of the volume.
    data = image.data.clone()
    data[: grid.shape[0] // 2, grid.shape[1] // 2, grid.shape[2] // 2] = 120
    conformed = conform(Image(data, grid), spec=spec)
    assert all(n % 4 == 0 for n in conformed.grid.shape)
    assert "grid grown" in conformed.notes[1]
    surface = np.argwhere(data.numpy() != 0)
    inside = conformed.grid.points_to_voxel(grid.points_to_world(surface))
    assert (inside >= -1e-9).all()
    assert (inside <= np.array(conformed.grid.shape) - 1 + 1e-9).all()
    # And no larger than it must be: with one step less, one end of the brain would be outside.
    half = np.array(conformed.grid.shape) // 2
    reach = np.maximum(-np.floor(inside.min(axis=0) - half), np.ceil(inside.max(axis=0) - half) + 1)
    assert (np.array(conformed.grid.shape) <= 2 * reach + 2 * 4).all()


def test_a_grid_that_is_large_enough_stays() -> None:
    grid = made_from_scratch((26, 30, 28), (1, 1, 1), "LIA", (0, 0, 0))
    assert conform(brain_like(grid), spec=SMALL).grid.shape == SMALL.shape


def test_box_centre_margin_and_multiples() -> None:
    data = torch.zeros(40, 40, 40)
    data[2:12, 3:33, 5:25] = torch.rand(10, 30, 20) + 1
    data[2:12, 3:33, 25:35] = 0
    image = Image(data, made_from_scratch((40, 40, 40), (1, 1, 1), "RAS", (0, 0, 0)))
    spec = ConformSpec((32, 32, 32), (1, 1, 1), ("R", "A", "S"), 32, "percentile", "box", margin=2)
    conformed = conform(image, spec=spec)
    # 10, 30 and 20 voxels and twice 2: the second needs more than 32.
    assert conformed.grid.shape == (32, 64, 32)
    filled = np.argwhere(conformed.brain_mask.numpy())
    np.testing.assert_array_equal(filled.min(axis=0), [16 - 5, 32 - 15, 16 - 10])
    np.testing.assert_array_equal(filled.max(axis=0), [16 + 4, 32 + 14, 16 + 9])
    brain = data[data != 0].numpy()
    low, high = np.quantile(brain, (0.005, 0.995))
    expected = np.clip((brain - low) / (high - low), 0, 1).astype(np.float32)
    np.testing.assert_allclose(conformed.tensor[0, 0][conformed.brain_mask], expected, atol=1e-6)
    assert float(conformed.tensor[0, 0][~conformed.brain_mask].abs().max()) == 0


@pytest.mark.parametrize("name", GRIDS)
def test_blocks_are_means_that_stay_in_place(name: str) -> None:
    image = brain_like(GRIDS[name])
    fine = conform(image, spec=SMALL)
    coarse = conform(image, spec=replace(SMALL, blocks=2))
    assert coarse.grid.shape == tuple(n // 2 for n in fine.grid.shape)
    assert coarse.slice_mm == fine.slice_mm == max(GRIDS[name].zooms)
    tensor = fine.tensor[0, 0].numpy()
    for i, j, k in np.ndindex(3, 3, 3):
        voxel = np.array([5 + i, 6 + j, 7 + k])
        block = tuple(slice(2 * v, 2 * v + 2) for v in voxel)
        assert float(coarse.tensor[0, 0][tuple(voxel)]) == pytest.approx(float(tensor[block].mean()), abs=1e-6)
        assert bool(coarse.brain_mask[tuple(voxel)]) == (int(fine.brain_mask[block].sum()) >= 4)
        # The middle of the eight is where the world has the one.
        np.testing.assert_allclose(
            coarse.grid.points_to_world(voxel), fine.grid.points_to_world(2 * voxel + 0.5), atol=1e-9
        )


# -- what intensities may be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zooms", [(1.0, 1.0, 1.0), (1.3, 0.9, 1.1)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_pair_shares_the_larger_grid(zooms: tuple[float, float, float], blocks: int) -> None:
    """Each of the two is longer along another axis; the other is conformed as if asked for that shape at once."""
    spec = replace(SMALL, blocks=blocks)
    grid = made_from_scratch((60, 58, 62), zooms, "LAS", (0.0, 0.0, 0.0))
    images = [brain_like(grid, (18.0, 7.0, 8.0)), brain_like(grid, (7.0, 19.0, 8.0), at=(1.0, 2.0, -1.0))]
    brains = [LabelMap((image.data > 0).byte(), grid) for image in images]
    moving, fixed = conform_pair((images[0], brains[0]), (images[1], brains[1]), spec)
    alone = [conform(image, brain, spec).grid.shape for image, brain in zip(images, brains, strict=True)]
    assert alone[0] != alone[1]
    shape = tuple(blocks * max(sizes) for sizes in zip(*alone, strict=True))
    for found, image, brain in ((moving, images[0], brains[0]), (fixed, images[1], brains[1])):
        expected = conform(image, brain, replace(spec, shape=shape))
        assert torch.equal(found.tensor, expected.tensor) and torch.equal(found.brain_mask, expected.brain_mask)
        assert found.grid.same_as(expected.grid, 0) and found.notes == expected.notes


def test_a_pair_of_one_size_keeps_its_grids() -> None:
    image = brain_like(made_from_scratch((60, 58, 62), (1, 1, 1), "LAS", (0.0, 0.0, 0.0)), (18.0, 7.0, 8.0))
    brain = LabelMap((image.data > 0).byte(), image.grid)
    alone = conform(image, brain, SMALL)
    for found in conform_pair((image, brain), (image, brain), SMALL):
        assert torch.equal(found.tensor, alone.tensor) and found.notes == alone.notes
        assert any("grown" in note for note in found.notes)


@pytest.mark.parametrize("normalisation", ["paper", "percentile"])
@pytest.mark.parametrize("codes", ["LIA", "PSR"])
def test_the_scale_of_the_file_does_not_matter(normalisation: Literal["paper", "percentile"], codes: str) -> None:
    image = brain_like(made_from_scratch((26, 30, 28), (1, 1, 1), codes, (0, 0, 0)))
    spec = replace(SMALL, normalisation=normalisation)
    expected = conform(image, spec=spec).tensor
    for scale in (1e-4, 0.37, 5e4):
        got = conform(Image(image.data * scale, image.grid), spec=spec).tensor
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("zooms", [(1, 1, 1), (0.9, 0.9, 0.9)])
def test_a_brain_of_z_scores_has_dark_surroundings(zooms: tuple[float, float, float]) -> None:
    """In a file of z-scores 0 is the mean of the brain, and the background is not a brain of mean intensity."""
    image = brain_like(made_from_scratch((26, 30, 28), zooms, "LIA", (0, 0, 0)))
    brain = image.data != 0
    scores = torch.where(brain, (image.data - image.data[brain].mean()) / image.data[brain].std(), 0)
    mask = LabelMap(brain.to(torch.uint8), image.grid)
    conformed = conform(Image(scores, image.grid), mask, SMALL)
    outside = ~torch.from_numpy(ndimage.binary_dilation(conformed.brain_mask.numpy(), iterations=3))
    assert float(conformed.tensor[0, 0][outside].max()) < 0.05
    assert float(conformed.tensor[0, 0][conformed.brain_mask].mean()) > 0.3


def test_what_lies_outside_the_mask_is_not_seen() -> None:
    image = brain_like(made_from_scratch((26, 30, 28), (1, 1, 1), "LIA", (0, 0, 0)))
    mask = LabelMap((image.data != 0).to(torch.uint8), image.grid)
    skull = torch.where(image.data == 0, torch.rand(image.data.shape) * 500, image.data)
    for spec in (SMALL, replace(SMALL, zooms=(1.1, 1.1, 1.1)), replace(SMALL, normalisation="percentile")):
        expected, got = conform(image, mask, spec), conform(Image(skull, image.grid), mask, spec)
        assert torch.equal(got.tensor, expected.tensor)


def test_a_head_turned_by_its_mask_is_upright() -> None:
    """A file that does not say how it lies: the same voxels, seen to lie otherwise, give the same tensor."""
    truth = made_from_scratch((26, 30, 28), (1, 1, 1), "PSR", (10, -3, 7))
    image = brain_like(truth, at=(1, 2, 0))
    mask = (image.data != 0).to(torch.uint8)
    expected = conform(image, LabelMap(mask, truth), SMALL)
    assumed = made_from_scratch((26, 30, 28), (1, 1, 1), "LAS", (0, 0, 0))
    got = conform(
        Image(image.data, assumed, oriented=False), LabelMap(mask, assumed, axis_codes=("P", "S", "R")), SMALL
    )
    assert torch.equal(got.tensor, expected.tensor)
    np.testing.assert_allclose(voxel_to_voxel(got.grid, assumed), voxel_to_voxel(expected.grid, truth), atol=1e-9)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_nothing_to_conform() -> None:
    grid = made_from_scratch((26, 30, 28), (1, 1, 1), "LIA", (0, 0, 0))
    image = brain_like(grid)
    with pytest.raises(UserError, match="no brain in its mask"):
        conform(image, LabelMap(torch.zeros(grid.shape, dtype=torch.uint8), grid), SMALL)
    with pytest.raises(UserError, match="only zeros"):
        conform(Image(torch.zeros(grid.shape), grid), spec=SMALL)
    flat = Image((image.data != 0).float() * 7, grid)
    for normalisation in ("paper", "percentile"):
        with pytest.raises(UserError, match="same intensity everywhere"):
            conform(flat, spec=replace(SMALL, normalisation=normalisation))
    with pytest.raises(ValueError, match="a mask of shape"):
        conform(image, LabelMap(torch.ones(3, 4, 5, dtype=torch.uint8), Grid((3, 4, 5), np.eye(4))), SMALL)


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (0, 4, 4)}, {"zooms": (1, 0, 1)}, {"axis_codes": ("R", "L", "S")}, {"multiple_of": 0}, {"margin": -1},
     {"blocks": 0}, {"blocks": 3},
     {"normalisation": "none"}, {"centre": "left"}],
)  # fmt: skip
def test_a_spec_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"conformed|axis codes|normalisation"):
        ConformSpec(**wrong)


# -- real brains -----------------------------------------------------------------------------------------------------

_GROUPS = [
    *([35], [46], [38, 39, 71, 72, 73], [40, 41], [44, 45], [57, 58], [61, 62], [55, 56], [36, 37], [51, 52], [47, 48]),
    *([4], [11], [31, 32], list(range(100, 208))),
]


@pytest.fixture(scope="module")
def val_brains(shared_data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Conformed intensities and Table 1 groups of the five scans of ``val``."""
    groups = np.zeros(208, np.uint8)
    for number, values in enumerate(_GROUPS, start=1):
        groups[values] = number
    out = {}
    for scan in ("1101", "1107", "1113", "1119", "1125"):
        image = read_image(shared_data / "oasis_malf" / f"{scan}_T1.nii.gz")
        labels = read_labels(shared_data / "oasis_malf" / f"{scan}_labels.nii.gz").data.numpy()
        conformed = conform(image, extract_brain(image)[0])
        assert conformed.grid.shape == (160, 176, 208)
        voxels = np.array(labels.nonzero())
        to_network = voxel_to_voxel(image.grid, conformed.grid)
        where = to_network[:3, :3] @ voxels + to_network[:3, 3:]
        assert np.abs(where - np.rint(where)).max() < 1e-6
        where = np.rint(where).astype(int)
        assert (where >= 0).all() and (where < [[160], [176], [208]]).all()
        placed = np.zeros(conformed.grid.shape, np.uint8)
        placed[tuple(where)] = groups[labels[labels > 0]]
        out[scan] = conformed.tensor[0, 0].numpy(), placed
    return out


def test_the_published_starting_point(val_brains: dict, shared_reference: Path) -> None:
    """Translation only, as published for ten pairs: mean squared difference and Dice over 15 structures."""
    with (shared_reference / "published_on_val.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 20
    for row in rows:
        (moving, a), (fixed, b) = val_brains[row["moving"]], val_brains[row["fixed"]]
        assert np.mean((moving - fixed) ** 2) == pytest.approx(float(row["mse_before"]), abs=2e-6)
        together = np.bincount((16 * a.astype(np.int64) + b).ravel(), minlength=256).reshape(16, 16)
        dice = 2 * together.diagonal() / (together.sum(0) + together.sum(1))
        assert np.mean(dice[1:]) == pytest.approx(float(row["dice15_before"]), abs=1e-4)


def test_freesurfer_conformed_space_is_copied(shared_data: Path) -> None:
    image = read_image(shared_data / "freesurfer_subject" / "sub-0001" / "mri" / "norm.mgz")
    conformed = conform(image, extract_brain(image)[0])
    assert conformed.notes == ["voxels copied without interpolation"]
    assert conformed.grid.axis_codes == ("L", "I", "A")


@pytest.mark.parametrize("name", ["patient07_T1.nii.gz", "patient19_T1.nii.gz"])
def test_small_negative_values_do_no_harm(name: str, shared_data: Path) -> None:
    image = read_image(shared_data / "lesions" / name)
    conformed = conform(image, extract_brain(image)[0])
    assert float(image.data.min()) < 0
    assert 0.3 < float(conformed.tensor[0, 0][conformed.brain_mask].median()) < 0.8
    assert float(conformed.tensor[0, 0, 0, 0, 0]) < 0.1
