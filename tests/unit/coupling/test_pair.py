"""From network numbers to world millimetres, against closed forms on turned, anisotropic grids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grids import made_from_scratch, turned
from uresnet.config import ConformSpec, ModelConfig
from uresnet.core.grid import Grid
from uresnet.core.labels import SCHEMES
from uresnet.coupling import couple, pair_transform, segment_conformed
from uresnet.model.checkpoint import Model, load_model, uresnet_card
from uresnet.model.network import UResNetOutput
from uresnet.preprocess import Conformed
from uresnet.transform import GridConvention

SHAPE = (12, 16, 8)
PAIRS = {
    "aligned": (
        made_from_scratch(SHAPE, (1.0, 1.0, 1.0), "LIA", (40.0, 80.0, -90.0)),
        made_from_scratch(SHAPE, (1.0, 1.0, 1.0), "LIA", (44.5, 61.0, -75.0)),
    ),
    "anisotropic": (
        made_from_scratch(SHAPE, (1.5, 0.8, 2.0), "RAS", (-10.0, 3.0, 5.0)),
        made_from_scratch(SHAPE, (1.5, 0.8, 2.0), "RAS", (12.0, 0.0, -5.0)),
    ),
    "oblique": (
        turned(made_from_scratch(SHAPE, (1.0, 1.3, 0.9), "LPS", (8.0, 2.0, 1.0)), (10.0, -15.0, 25.0)),
        turned(made_from_scratch(SHAPE, (1.1, 1.0, 1.2), "LPS", (0.0, 7.0, 3.0)), (-5.0, 30.0, 8.0)),
    ),
}
IDENTITY = torch.eye(3, 4)[None]


@pytest.fixture(params=list(PAIRS.values()), ids=list(PAIRS))
def grids(request: pytest.FixtureRequest) -> tuple[Grid, Grid]:
    """(moving, fixed) network grids of one shape."""
    return request.param


def output(gradients: tuple[float, float, float] = (1.0, 1.0, 1.0), affine: torch.Tensor = IDENTITY) -> UResNetOutput:
    constant = torch.tensor(gradients).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    return UResNetOutput(constant, affine, None)


def some_affine() -> torch.Tensor:
    return torch.tensor([[[1.1, 0.05, 0.0, 0.7], [-0.04, 0.95, 0.02, -0.4], [0.01, 0.0, 1.05, 0.3]]])


def interior() -> np.ndarray:
    """Voxels whose surroundings are on the grid."""
    return np.random.default_rng(0).uniform(1, np.array(SHAPE) - 2, (200, 3))


def assert_maps(transform, moving: Grid, fixed: Grid, voxels: np.ndarray, expected: np.ndarray) -> None:
    """``transform`` in the world is ``voxels`` of the fixed grid → ``expected`` voxels of the moving grid."""
    world = torch.from_numpy(fixed.points_to_world(voxels))
    np.testing.assert_allclose(transform.apply(world).numpy(), moving.points_to_world(expected), atol=2e-4)


def test_the_identity_sends_voxel_to_voxel(grids: tuple[Grid, Grid]) -> None:
    assert_maps(pair_transform(output(), *grids), *grids, interior(), interior())


def test_an_affine_turns_about_the_middle(grids: tuple[Grid, Grid]) -> None:
    a = some_affine()[0].double().numpy()
    middle = (np.array(SHAPE) - 1) / 2
    expected = (interior() - middle) @ a[:, :3].T + middle + a[:, 3]
    assert_maps(pair_transform(output(affine=some_affine()), *grids), *grids, interior(), expected)
    # Far outside the deformation's grid the affine still holds.
    far = interior() * 40
    expected = (far - middle) @ a[:, :3].T + middle + a[:, 3]
    assert_maps(pair_transform(output(affine=some_affine()), *grids, "affine"), *grids, far, expected)


def test_constant_gradients_stretch_from_the_first_voxel(grids: tuple[Grid, Grid]) -> None:
    g = np.array([0.5, 1.25, 1.0])
    # The sum of n + 1 gradients, less 1.
    expected = g * (interior() + 1) - 1
    assert_maps(pair_transform(output(tuple(g)), *grids), *grids, interior(), expected)


def test_the_affine_comes_after_the_deformation(grids: tuple[Grid, Grid]) -> None:
    g, a = np.array([0.5, 1.25, 1.0]), some_affine()[0].double().numpy()
    middle = (np.array(SHAPE) - 1) / 2
    expected = (g * (interior() + 1) - 1 - middle) @ a[:, :3].T + middle + a[:, 3]
    assert_maps(pair_transform(output(tuple(g), some_affine()), *grids), *grids, interior(), expected)


def test_deformable_leaves_the_affine_out(grids: tuple[Grid, Grid]) -> None:
    g = np.array([0.5, 1.25, 1.0])
    transform = pair_transform(output(tuple(g), some_affine()), *grids, "deformable")
    assert_maps(transform, *grids, interior(), g * (interior() + 1) - 1)


def test_rigid_keeps_distances(grids: tuple[Grid, Grid]) -> None:
    transform = pair_transform(output((0.5, 1.25, 1.0), some_affine()), *grids, "rigid")
    world = grids[1].points_to_world(interior())
    moved = transform.apply(torch.from_numpy(world)).numpy()
    distances = [np.linalg.norm(p[:-1] - p[1:], axis=1) for p in (world, moved)]
    np.testing.assert_allclose(distances[0], distances[1], rtol=1e-9)
    # The middle of the grid goes where the affine sends it.
    middle = (np.array(SHAPE) - 1) / 2
    assert_maps(transform, *grids, middle[None], (middle + some_affine()[0, :, 3].numpy())[None])


def test_the_convention_of_2019_starts_at_one_and_turns_about_voxel_zero(grids: tuple[Grid, Grid]) -> None:
    convention = GridConvention.PUBLISHED_2019
    assert_maps(pair_transform(output(), *grids, "joint", convention), *grids, interior(), interior() + 1)
    a = some_affine()[0].double().numpy()
    transform = pair_transform(output(affine=some_affine()), *grids, "affine", convention)
    assert_maps(transform, *grids, interior(), interior() @ a[:, :3].T + a[:, 3])


def test_where_it_lies_is_remembered(grids: tuple[Grid, Grid]) -> None:
    transform = pair_transform(output(), *grids)
    assert transform.domain is not None and transform.domain.same_as(grids[1])
    assert transform.codomain is not None and transform.codomain.same_as(grids[0])


def conformed(grid: Grid, seed: int) -> Conformed:
    data = torch.rand((1, 1, *grid.shape), generator=torch.Generator().manual_seed(seed))
    return Conformed(data, grid, torch.ones(grid.shape, dtype=torch.bool))


def test_each_image_is_segmented_as_the_moving_one(grids: tuple[Grid, Grid], tiny_model: Path) -> None:
    model = load_model(tiny_model)
    moving, fixed = conformed(grids[0], 1), conformed(grids[1], 2)
    one, other = couple(model, moving, fixed), couple(model, fixed, moving)
    for probabilities, grid in ((one.moving_segmented, grids[0]), (one.fixed_segmented, grids[1])):
        assert probabilities is not None and probabilities.grid.same_as(grid)
        torch.testing.assert_close(probabilities.data.sum(dim=0), torch.ones(SHAPE))
    assert one.fixed_segmented is not None and other.moving_segmented is not None
    assert torch.equal(one.fixed_segmented.data, other.moving_segmented.data)


def test_one_image_alone_is_its_own_partner(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    image = conformed(PAIRS["oblique"][0], 3)
    paired = couple(model, image, image).moving_segmented
    assert paired is not None
    assert torch.equal(segment_conformed(model, image).segmented.data, paired.data)


@pytest.mark.parametrize("millilitres", [0.9, 1.1])
def test_abnormal_tissue_has_a_class_from_one_millilitre_on(millilitres: float) -> None:
    """Fewer voxels are what comes second there."""
    grid = made_from_scratch(SHAPE, (4.0, 4.0, 4.0), "RAS", (0.0, 0.0, 0.0))
    logits = torch.zeros(1, 5, *SHAPE)
    logits[:, 2] = 1.0
    found = torch.arange(grid.shape[0] * grid.shape[1] * grid.shape[2]).view(SHAPE) < 1000 * millilitres / 64
    logits[:, 4][:, found] = 2.0

    class Sees(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> UResNetOutput:
            return replace(output(), segmentation_logits=logits.clone())

    card = uresnet_card("sees", ModelConfig(scheme="tissue3_abnormal"), ConformSpec())
    model = Model(card, Sees(), SCHEMES["tissue3_abnormal"], ConformSpec(), "")
    for segmented in (
        segment_conformed(model, conformed(grid, 1)).segmented,
        couple(model, conformed(grid, 1), conformed(grid, 2)).fixed_segmented,
    ):
        assert segmented is not None
        classes = segmented.data.argmax(dim=0)
        assert torch.equal(classes == 4, found if millilitres > 1 else torch.zeros_like(found))
        assert bool((classes[~found] == 2).all())
        torch.testing.assert_close(segmented.data.sum(dim=0), torch.ones(SHAPE))
