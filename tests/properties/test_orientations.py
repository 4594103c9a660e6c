"""How a brain happens to be stored does not matter: the answer in the world is the same.

Compared are the points to which the transform sends the fixed brain. The network is small and made by hand, but it
turns, shifts and deforms by what it sees, so that an image that reaches it differently gives another answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, inv_ornt_aff

from brains import RADII_MM, brain_on, intensity, write_nifti, write_tiny_model
from grids import turned
from uresnet.config import ConformSpec
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.coupling import couple
from uresnet.io import read_image, read_labels
from uresnet.model.catalogue import find_model, packaged_models
from uresnet.model.checkpoint import Model, load_model
from uresnet.preprocess import Conformed, conform, extract_brain, find_foreground
from uresnet.transform import Affine, Composite, resample

ALL_48 = [
    np.array(list(zip(order, signs, strict=True)))
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
SOME = ALL_48[::7]  # each order of the axes, with one, two or three of them reversed, or none
ALLOWED_MM = 0.3
Pair = tuple[Image, LabelMap]
MOVING = Grid.centred((44, 50, 40), (4.2, 4.4, 4.6), "RAS", (3.0, -7.0, 12.0))
FIXED = turned(Grid.centred((50, 44, 46), (4.0, 4.8, 3.8), "LAS", (5.0, 20.0, -30.0)), (-6.0, 9.0, 14.0))
FIXED_CENTRE = (6.0, 18.0, -28.0)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def coarse_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same for 8 mm images: an eighth of the time, where an answer must be the same to rounding."""
    path = tmp_path_factory.mktemp("model") / "coarse.safetensors"
    spec = ConformSpec(shape=(24, 28, 28), zooms=(8.0, 8.0, 8.0))
    return load_model(write_tiny_model(path, deforms=True, spec=spec))


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return write_nifti(brain_on(FIXED, FIXED_CENTRE), FIXED, tmp_path / "fixed.nii.gz")


def registered(model: Model, moving: Path, fixed: Path) -> Composite:
    images = [read_image(path) for path in (moving, fixed)]
    seen = [conform(image, extract_brain(image, "none")[0], model.conform) for image in images]
    return couple(replace(model, scheme=None), seen[0], seen[1]).transform  # segmenting would take as long again


def answer(model: Model, moving: Path, fixed: Path) -> np.ndarray:
    """Where 200 points of the fixed brain go, mm."""
    drawn = np.random.default_rng(0).normal(size=(200, 3))
    inside = drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * np.linspace(0.1, 0.95, 200)[:, None]
    points = torch.from_numpy(inside * RADII_MM + FIXED_CENTRE)
    return registered(model, moving, fixed).apply(points).numpy()


def mean_distance(points: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(points - expected, axis=1).mean())


def stored(data: np.ndarray, matrix: np.ndarray, orientation: np.ndarray, path: Path) -> Path:
    """The same voxels in another order, by nibabel."""
    turned = apply_orientation(data, orientation)
    image = nib.Nifti1Image(np.ascontiguousarray(turned), matrix @ inv_ornt_aff(orientation, data.shape))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


def axis_codes(path: Path) -> tuple[str, ...]:
    """As nibabel says it."""
    return nib.aff2axcodes(nib.Nifti1Image.from_filename(path).affine)


@pytest.mark.parametrize("name", ["model", "coarse_model"])
def test_the_network_sees_what_it_is_shown(name, request, fixed, tmp_path):
    """Otherwise nothing here could fail: another brain in the same place is answered differently."""
    model = request.getfixturevalue(name)
    plain = write_nifti(brain_on(MOVING), MOVING, tmp_path / "m.nii.gz")
    mirrored = write_nifti(np.ascontiguousarray(brain_on(MOVING)[::-1]), MOVING, tmp_path / "n.nii.gz")
    assert mean_distance(answer(model, plain, fixed), answer(model, mirrored, fixed)) > 2 * ALLOWED_MM


def test_in_every_order_of_axes(coarse_model, fixed, tmp_path):
    """Of all 48 orientations: see ``test_packaged_networks_see_one_image_in_all_48_orientations``."""
    data = brain_on(MOVING)
    expected = answer(coarse_model, write_nifti(data, MOVING, tmp_path / "m.nii.gz"), fixed)
    seen = set()
    for orientation in SOME:
        path = stored(data, MOVING.voxel_to_world, orientation, tmp_path / "o.nii")
        seen.add(axis_codes(path))
        assert mean_distance(answer(coarse_model, path, fixed), expected) < 0.01, axis_codes(path)
    assert len(seen) == len(SOME)


def test_the_fixed_image_turned_over(coarse_model, fixed, tmp_path):
    path = write_nifti(brain_on(MOVING), MOVING, tmp_path / "m.nii.gz")
    expected = answer(coarse_model, path, fixed)
    for orientation in ALL_48[5::9]:
        other = stored(brain_on(FIXED, FIXED_CENTRE), FIXED.voxel_to_world, orientation, tmp_path / "f.nii")
        assert mean_distance(answer(coarse_model, path, other), expected) < 0.01, axis_codes(other)


def test_cropped_and_padded(model, fixed, tmp_path):
    data = brain_on(MOVING)
    expected = answer(model, write_nifti(data, MOVING, tmp_path / "m.nii.gz"), fixed)
    box = [np.flatnonzero(data.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    start, stop = np.array([b[0] for b in box]), np.array([b[-1] + 1 for b in box])
    for low, high in ((start, stop), (start - np.array([9, 2, 5]), stop + np.array([3, 14, 6]))):
        grid = MOVING.subgrid(low, (high - low).tolist())
        path = write_nifti(brain_on(grid), grid, tmp_path / "c.nii.gz")
        assert mean_distance(answer(model, path, fixed), expected) < ALLOWED_MM, grid.shape


@pytest.mark.parametrize(
    "grid",
    [
        Grid.centred((60, 70, 58), (3.0, 3.0, 3.0), "LPS", (0.0, 0.0, 0.0)),
        Grid.centred((70, 80, 30), (2.5, 2.5, 6.0), "RAS", (3.0, -4.0, 1.0)),
        turned(Grid.centred((64, 62, 60), (3.3, 3.4, 3.2), "PIR", (2.0, 5.0, 0.0)), (12.0, -20.0, 16.0)),
    ],
    ids=["finer", "thick slices", "oblique"],
)
def test_sampled_on_another_grid(model, fixed, tmp_path, grid):
    expected = answer(model, write_nifti(brain_on(MOVING), MOVING, tmp_path / "m.nii.gz"), fixed)
    found = answer(model, write_nifti(brain_on(grid), grid, tmp_path / "g.nii.gz"), fixed)
    assert mean_distance(found, expected) < ALLOWED_MM


@pytest.mark.parametrize("shift", [(250.0, -90.0, 40.0), (1.3, 0.7, -2.2)])
def test_moved_in_the_world(model, fixed, tmp_path, shift):
    """Only its header changes: the answer moves along."""
    data = brain_on(MOVING)
    expected = answer(model, write_nifti(data, MOVING, tmp_path / "m.nii.gz"), fixed)
    matrix = MOVING.voxel_to_world.copy()
    matrix[:3, 3] += shift
    found = answer(model, write_nifti(data, Grid(MOVING.shape, matrix), tmp_path / "s.nii.gz"), fixed)
    assert mean_distance(found, expected + shift) < ALLOWED_MM


# -- what the packaged networks see ---------------------------------------------------------------------------------


def small_spec(name: str) -> ConformSpec:
    """How a packaged model wants its images, on a smaller grid."""
    wanted = load_model(find_model(name).path).conform
    return replace(wanted, shape=(96, 96, 96), multiple_of=16)


DIFFERENT = ("default", "paper", "translation")  # in axes, centre, intensities and blocks


@pytest.fixture(scope="module", params=DIFFERENT)
def spec(request: pytest.FixtureRequest) -> ConformSpec:
    return small_spec(request.param)


def test_no_packaged_network_sees_in_another_way():
    assert all(small_spec(name) in [small_spec(other) for other in DIFFERENT] for name in packaged_models())


FINE = Grid.centred((63, 72, 66), (1.0, 1.0, 1.0), "RAS", (3.0, -7.0, 12.0))
ANISOTROPIC = turned(Grid.centred((50, 44, 27), (1.3, 1.2, 2.5), "LAS", (5.0, 20.0, -30.0)), (-6.0, 9.0, 14.0))


def small_brain(grid: Grid) -> np.ndarray:
    """A third of a brain's size, with the same features."""
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return intensity(3.2 * (grid.points_to_world(voxels) - FINE.centre_world - [0.3, 0.1, 0.4])).astype(np.float32)


def seen(data: np.ndarray, matrix: np.ndarray, spec: ConformSpec) -> Conformed:
    image = Image(torch.from_numpy(np.ascontiguousarray(data)), Grid(data.shape, matrix))
    mask = find_foreground(image).mask.astype(np.uint8)
    return conform(image, LabelMap(torch.from_numpy(mask), image.grid), spec)


def test_packaged_networks_see_one_image_in_all_48_orientations(spec: ConformSpec):
    """Voxel for voxel where voxels are only moved; the registration is then the same to the last bit."""
    data = small_brain(FINE)
    expected = seen(data, FINE.voxel_to_world, spec)
    assert int(expected.brain_mask.sum()) * spec.blocks**3 > 1000 and expected.tensor.std() > 0.01
    for orientation in ALL_48:
        turned_over = apply_orientation(data, orientation)
        found = seen(turned_over, FINE.voxel_to_world @ inv_ornt_aff(orientation, data.shape), spec)
        assert torch.equal(found.tensor, expected.tensor) and torch.equal(found.brain_mask, expected.brain_mask)
        assert found.grid.same_as(expected.grid, 1e-9)


def test_packaged_networks_see_interpolated_images_alike(spec: ConformSpec):
    """The same for oblique anisotropic voxels, to rounding."""
    data = small_brain(Grid(ANISOTROPIC.shape, about_fine(ANISOTROPIC)))
    expected = seen(data, about_fine(ANISOTROPIC), spec)
    for orientation in ALL_48[::5]:
        turned_over = apply_orientation(data, orientation)
        found = seen(turned_over, about_fine(ANISOTROPIC) @ inv_ornt_aff(orientation, data.shape), spec)
        assert found.grid.same_as(expected.grid, 1e-6)
        torch.testing.assert_close(found.tensor, expected.tensor, atol=2e-3, rtol=0)


def about_fine(grid: Grid) -> np.ndarray:
    """The matrix of a grid brought to where the small brain is."""
    matrix = grid.voxel_to_world.copy()
    matrix[:3, 3] += FINE.centre_world - grid.centre_world
    return matrix


def test_packaged_networks_see_a_padded_and_moved_image_unchanged(spec: ConformSpec):
    data, shift = small_brain(FINE), np.array([250.3, -90.7, 40.1])
    expected = seen(data, FINE.voxel_to_world, spec)
    filled = [np.flatnonzero(data.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    low, high = np.array([f[0] for f in filled]), np.array([f[-1] + 1 for f in filled])
    for start, stop in ((low - 1, high + 1), (low - np.array([9, 2, 5]), high + np.array([3, 14, 6]))):
        grid = FINE.subgrid(start, (stop - start).tolist())
        matrix = grid.voxel_to_world.copy()
        matrix[:3, 3] += shift
        found = seen(small_brain(grid), matrix, spec)
        assert torch.equal(found.tensor, expected.tensor)
        np.testing.assert_allclose(found.grid.centre_world, expected.grid.centre_world + shift, atol=1e-9)


# -- a real pair ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealPair:
    """Two brains and a network. ``masks``: the brains are those of the manual labels, as the published network has it;
    otherwise they are found, as users have it."""

    model: Model
    moving: Pair
    fixed: Pair
    masks: bool


@pytest.fixture(scope="module", params=["published", "default"])
def real_pair(request: pytest.FixtureRequest, shared_data: Path, shared_reference: Path) -> RealPair:
    published = request.param == "published"
    file = shared_reference / "published_weights" / "use_mask.hdf5" if published else find_model(None).path
    folder, scans = shared_data / "oasis_malf", (1000, 1001) if published else (1113, 1107)
    moving, fixed = (masked(folder / f"{scan}_T1.nii.gz", folder / f"{scan}_labels.nii.gz") for scan in scans)
    return RealPair(load_model(file), moving, fixed, published)


def turned_over_and_padded(image: Image) -> Grid:
    grid = image.grid.reoriented("PSL")
    return grid.subgrid((-7, -3, -12), [n + 20 for n in grid.shape])


def carried(pair: Pair, grid: Grid, how: Literal["linear", "nearest"] = "linear") -> Pair:
    """``how`` "nearest" copies voxels exactly; linear leaves traces of rounding around a brain, which are not its."""
    return resample(Affine.identity(), pair[0], grid, how), resample(Affine.identity(), pair[1], grid)


def moved(pair: Pair, shift: list[float]) -> Pair:
    matrix = pair[0].grid.voxel_to_world.copy()
    matrix[:3, 3] += shift
    grid = Grid(pair[0].grid.shape, matrix)
    return Image(pair[0].data, grid), LabelMap(pair[1].data, grid)


def masked(image: Path, labels: Path) -> Pair:
    brain = read_labels(labels)
    return read_image(image), LabelMap(brain.mask.short(), brain.grid)


def shown(pair: RealPair, image: Pair) -> Conformed:
    brain = image[1] if pair.masks else extract_brain(image[0])[0]
    return conform(image[0], brain, pair.model.conform)


@pytest.mark.real
def test_a_real_brain_turned_over_padded_and_moved(real_pair: RealPair):
    """Stored in another way and elsewhere, it reaches the network unchanged: the answer is the same to the last bit."""
    shift = [31.4, -250.7, 12.3]
    elsewhere = moved(carried(real_pair.moving, turned_over_and_padded(real_pair.moving[0]), "nearest"), shift)
    expected, found = shown(real_pair, real_pair.moving), shown(real_pair, elsewhere)
    assert torch.equal(found.tensor, expected.tensor) and torch.equal(found.brain_mask, expected.brain_mask)
    there = expected.grid.voxel_to_world.copy()
    there[:3, 3] += shift
    np.testing.assert_allclose(found.grid.voxel_to_world, there, atol=1e-9)
