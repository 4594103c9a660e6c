"""Coupling in a mid-space, with images whose structures are known: worlds, exchange of the images, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mirror_images
from grids import made_from_scratch, turned
from solver_images import GROUPS, QUICK, SHAPE, affine, blobs
from uresnet.core.choices import Freedom
from uresnet.core.grid import Grid
from uresnet.core.labels import ABNORMAL, SCHEMES
from uresnet.coupling import Coupling, couple_midspace, midspace
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.preprocess import Conformed
from uresnet.solver import SolverImage, SolverSettings

A = turned(made_from_scratch(SHAPE, (1.0, 1.0, 1.0), "RAS", (3.0, -2.0, 8.0)), (4.0, -6.0, 3.0))
B = made_from_scratch(SHAPE, (1.0, 1.0, 1.0), "LIA", (-40.0, 12.0, 5.0))
AFFINE_A, AFFINE_B = affine(0.2, 0.08, 2.0), affine(-0.1, 0.0, -1.0)
IMAGES = {id(A): blobs(AFFINE_A), id(B): blobs(AFFINE_B)}


def couple(
    monkeypatch: pytest.MonkeyPatch,
    moving: Grid,
    fixed: Grid,
    freedom: Freedom,
    images: dict[int, SolverImage],
    **network: int,
) -> Coupling:
    """Without a network, but for what its card says of it: each grid has its image."""
    monkeypatch.setattr(midspace, "_segment", lambda model, image, *_, **__: (images[id(image.grid)], None, None))
    inside = torch.ones(SHAPE, dtype=torch.bool)
    conformed = [Conformed(torch.zeros(1, 1, *SHAPE), grid, inside) for grid in (moving, fixed)]
    model = replace(load_model("translation"), scheme=SCHEMES["tissue3"])
    model = replace(model, card=replace(model.card, network=network))
    return couple_midspace(model, conformed[0], conformed[1], freedom, QUICK)


def places(margin: int) -> np.ndarray:
    """Positions about the middle of the lattice, mm, (N, 3)."""
    half = np.array(SHAPE) / 2 - margin
    return np.random.default_rng(0).uniform(-half, half, (300, 3))


def test_the_affine_maps_between_the_worlds_of_both_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both show the same blobs: fixed x → blob → moving x, about the middles."""
    transform = couple(monkeypatch, A, B, "affine", IMAGES).transform
    x, middle = places(16), (np.array(SHAPE) - 1) / 2
    between = np.linalg.inv(AFFINE_A) @ AFFINE_B
    expected = A.points_to_world(x @ between[:3, :3].T + between[:3, 3] + middle)
    found = transform.apply(torch.from_numpy(B.points_to_world(x + middle)))
    assert np.linalg.norm(found.numpy() - expected, axis=1).max() < 0.5
    assert transform.domain is B and transform.codomain is A


def test_exchanging_the_images_gives_the_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = couple(monkeypatch, A, B, "joint", IMAGES).transform
    backward = couple(monkeypatch, B, A, "joint", IMAGES).transform
    world = torch.from_numpy(B.points_to_world(places(12) + (np.array(SHAPE) - 1) / 2))
    moved = forward.apply(world)
    torch.testing.assert_close(backward.inverse().apply(world), moved, atol=0.01, rtol=0)
    assert float((backward.apply(moved) - world).norm(dim=1).mean()) < 0.02


def test_the_borders_of_a_coarse_network_exert_no_force(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, solve = list[SolverSettings](), midspace._velocities

    def noted(moving: SolverImage, fixed: SolverImage, affine_log: np.ndarray, settings: SolverSettings) -> Any:
        seen.append(settings)
        return solve(moving, fixed, affine_log, settings)

    monkeypatch.setattr(midspace, "_velocities", noted)
    for network in ({"downsampling": 2}, {}):
        couple(monkeypatch, A, B, "joint", IMAGES, **network)
    assert [settings.structures for settings in seen] == [0.0, QUICK.structures] and QUICK.structures > 0
    assert {settings.correlation for settings in seen} == {QUICK.correlation}


def test_images_without_structures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SolverImage(torch.zeros_like(IMAGES[id(A)].probabilities), torch.zeros(1, 1, *SHAPE), GROUPS)
    with pytest.raises(UserError, match="fewer than six structures"):
        couple(monkeypatch, A, B, "joint", {id(A): nothing, id(B): IMAGES[id(B)]})


@pytest.mark.parametrize("name", SCHEMES)
def test_left_and_right_are_one_structure(name: str) -> None:
    scheme = SCHEMES[name]
    groups = midspace._structures_of_classes(scheme).tolist()
    assert groups[0] == 0 and set(groups) == set(range(max(groups) + 1))
    for c, mirrored in enumerate(scheme.mirrored):
        healthy = {i for i in (c, mirrored) if i == 0 or scheme.ids[i - 1] not in ABNORMAL}
        assert groups[c] == groups[mirrored]
        if healthy:
            same = [i for i, group in enumerate(groups) if group == groups[c]]
            assert healthy == {i for i in same if i == 0 or scheme.ids[i - 1] not in ABNORMAL}


def test_lesions_of_the_white_matter_are_white_matter_and_masses_are_nothing() -> None:
    for name in ("freesurfer34", "freesurfer35"):
        scheme = SCHEMES[name]
        group = dict(zip((0, *scheme.ids), midspace._structures_of_classes(scheme).tolist(), strict=True))
        assert group[77] == group[2] == group[41] != 0
        assert group[25] == group.get(57, 0) == 0


def test_nothing_is_expected_of_a_structure_that_a_mass_takes_from() -> None:
    scheme = SCHEMES["freesurfer32"]
    classes, probabilities = torch.zeros((8, 8, 8), dtype=torch.uint8), torch.zeros((33, 4, 4, 4))
    for c, start in ((1, 0), (2, 4)):
        classes[start : start + 4] = c
        probabilities[c, start // 2 : start // 2 + 2] = 1
    ids = [scheme.ids[0], scheme.ids[1]]
    assert midspace._expected(classes, probabilities, scheme, None) == dict.fromkeys(ids, 1.0)
    mass = torch.zeros_like(classes)
    mass[4:6, 0, 0] = 33  # 2 of 256 voxels of the second
    assert list(midspace._expected(classes, probabilities, scheme, mass)) == ids
    mass[4:6, :2] = 33
    assert list(midspace._expected(classes, probabilities, scheme, mass)) == ids[:1]


def test_a_network_is_shown_a_healthy_brain_in_place_of_a_mass_which_exerts_no_force() -> None:
    upright = mirror_images.tilted(0.0, 0.0)
    healthy, mass = mirror_images.image(upright), mirror_images.ball((20, 30, 24), 6)
    sick = healthy.clone()
    sick[0, 0][mass] = 1.0
    network = mirror_images.Shown(mirror_images.probabilities(upright))
    model = replace(load_model("translation"), scheme=mirror_images.SCHEME, network=network)
    grid = Grid.centred(mirror_images.SHAPE, (1, 1, 1), "RAS", (0, 0, 0))
    image = Conformed(sick, grid, sick[0, 0] > 0, abnormal=mass)
    found, _, _ = midspace._segment(model, image, False, None, mass.to(torch.uint8) * 33)
    assert len(network.images) == 2
    torch.testing.assert_close(network.images[0], sick)  # which tells what is opposite to what
    assert float((network.images[1] - healthy).abs()[0, 0][mass].max()) < 0.06
    assert found.intensities is sick
    torch.testing.assert_close(found.ignored, mass[None, None].float())
    assert found.no_centroid is None

    # What lies opposite to mass is not known: its centroids count no more than its forces.
    both = mass | mass.flip(0)
    found, _, _ = midspace._segment(model, image, False, None, both.to(torch.uint8) * 33)
    torch.testing.assert_close(found.ignored, both[None, None].float())
    torch.testing.assert_close(found.no_centroid, both[None, None].float())
