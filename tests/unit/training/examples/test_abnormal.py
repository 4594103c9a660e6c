"""Abnormal tissue: how much of it, on which side, how bright, and what a mass does to its surroundings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from uresnet.core.coordinates import identity_coordinates
from uresnet.training.examples.abnormal import (
    Mass,
    brightness,
    draw_mass,
    infiltration,
    mass_ids,
    mass_shape,
    stroke,
    white_matter_lesions,
)
from uresnet.training.examples.contrasts import FAMILIES, draw_tissues
from uresnet.transform import lattice_determinant


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brain(n: int = 32) -> torch.Tensor:
    """A ball of white matter in cortex round a ventricle; left (ids below 40) is where the first index is low."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij")).float()
    away = (grid - (n - 1) / 2).norm(dim=0) / (n / 2)
    left = grid[0] < n / 2
    labels = torch.zeros((n, n, n), dtype=torch.uint8)
    for reach, ids in ((0.95, (3, 42)), (0.8, (2, 41)), (0.25, (4, 43))):
        labels[away < reach] = torch.where(left, *(torch.tensor(i, dtype=torch.uint8) for i in ids))[away < reach]
    return labels[None, None]


@pytest.mark.parametrize("portion", [0.001, 0.02, 0.2, 1.0])
def test_lesions_are_the_portion_of_white_matter_that_was_asked_for(portion: float) -> None:
    labels = brain()
    white = (labels == 2) | (labels == 41)
    for seed in range(4):
        share = white_matter_lesions(labels, portion, generator(seed))
        assert int((share > 0.5).sum()) == round(portion * int(white.sum()))
        assert float(share[~white].abs().max()) == 0 and float(share.min()) >= 0 and float(share.max()) <= 1


def test_no_white_matter_no_lesion() -> None:
    nothing = torch.zeros((1, 1, 8, 8, 8), dtype=torch.uint8)
    for share in (
        white_matter_lesions(nothing, 0.5, generator()),
        stroke(nothing, nothing > 0, torch.ones(2, 2, 2), generator()),
    ):
        assert share.shape == nothing.shape and float(share.abs().max()) == 0
    assert draw_mass(nothing, (3, 5), generator()) is None


def test_a_stroke_has_the_volume_of_its_mask_and_lies_in_tissue() -> None:
    """Turned and scaled by at most exp(0.3) an axis: the volume is between the cubes of both."""
    labels = torch.full((1, 1, 40, 40, 40), 2, dtype=torch.uint8)
    mask = torch.zeros((9, 7, 11), dtype=torch.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    volumes = []
    for seed in range(12):
        share = stroke(labels, labels > 0, mask, generator(seed))
        volumes.append(float(share.sum()))
    inside = int(mask.sum())
    # Those that are cut by the edge are smaller; one near the middle is whole.
    assert max(volumes) < 1.1 * inside * np.exp(0.9) and max(volumes) > 0.9 * inside * np.exp(-0.9)
    fluid = torch.where(torch.arange(40).view(1, 1, 40, 1, 1) < 20, 4, 2).to(torch.uint8).expand(labels.shape)
    assert float(stroke(fluid, fluid > 0, mask, generator(1))[fluid == 4].max()) == 0


@pytest.mark.parametrize("push", [0.0, 0.3, 0.6, 0.95])
def test_the_effect_of_a_mass_can_be_undone(push: float) -> None:
    """Distances before are a rising function of those after, so there is one after for each before."""
    mass = Mass(torch.zeros(1, 3, 1, 1, 1), 10.0, push)
    after = torch.linspace(0, 60, 6001, dtype=torch.float64)
    before = mass.distance_before(after)
    assert float(before.diff().min()) > 0
    assert float(before[0]) == 0 and float(mass.distance_before(torch.tensor(10.0))) == pytest.approx(10 * (1 - push))
    assert abs(float(mass.distance_before(torch.tensor(200.0))) - 200) < 1e-3
    undone = np.interp(before.numpy(), before.numpy(), after.numpy())
    np.testing.assert_allclose(undone, after, atol=1e-9)
    # Outside, by hand: at 18 = 1.8 radii the push has faded to 1 / e.
    assert float(mass.distance_before(torch.tensor(18.0))) == pytest.approx(18 - push * 10 / math.e, abs=1e-4)


def test_a_mass_moves_along_its_radius_and_folds_nothing() -> None:
    centre = torch.tensor([12.0, 15.0, 10.0]).view(1, 3, 1, 1, 1)
    mass = Mass(centre, 6.0, 0.6)
    x = identity_coordinates((24, 28, 24))
    moved = mass.before(x) - x
    assert float(lattice_determinant(moved[0]).min()) > 0
    assert moved[0, :, 20, 15, 10].tolist() == pytest.approx([-0.6 * 6 * np.exp(-(8 / 6 - 1) / 0.8), 0, 0], abs=1e-5)
    assert float(moved[0, :, 12, 15, 10].abs().max()) == 0
    still = Mass(centre, 6.0, 0.0)
    torch.testing.assert_close(still.before(x), x, atol=1e-5, rtol=0)


def test_masses_have_the_side_of_the_tissue_around_them() -> None:
    labels = brain()
    ids = mass_ids(labels)
    left = (labels == 2) | (labels == 3) | (labels == 4)
    right = (labels == 41) | (labels == 42) | (labels == 43)
    assert bool((ids[left] == 25).all()) and bool((ids[right] == 57).all())
    holed = labels.clone()
    holed[:, :, 20:26, 12:20, 12:20] = 14  # a structure without a side, deep in the right half
    assert bool((mass_ids(holed)[holed == 14] == 57).all())


def test_the_parts_of_a_mass_lie_where_they_belong() -> None:
    labels = brain()
    mass = Mass(torch.tensor([10.0, 16, 16]).view(1, 3, 1, 1, 1), 5.0, 0.0)
    for seed in range(4):
        parts = mass_shape(mass, labels, labels > 0, generator(seed))
        white = (labels == 2) | (labels == 41)
        assert float(parts.oedema[~white].max()) == 0 and float(parts.whole[labels == 0].max()) == 0
        assert bool((parts.rim <= parts.whole).all()) and bool((parts.oedema + parts.whole <= 1 + 1e-6).all())
        volume = int((parts.whole > 0.5).sum())
        assert 0.4 < volume / (4 / 3 * np.pi * 5**3) < 1.8
    for seed in range(20):
        drawn = draw_mass(labels, (5.0, 26.0), generator(seed))
        assert drawn is not None and 5 <= drawn.radius < 26 and 0 <= drawn.push <= 0.6
        assert int(labels[0, 0][tuple(drawn.centre.flatten().long().tolist())]) > 0


def test_an_infiltrating_tumour_lies_round_its_centre_and_not_in_the_ventricles() -> None:
    labels, spared = brain(), 0
    labels[:, :, :, :, :2] = 24  # fluid on a side
    voxels = identity_coordinates(labels.shape[2:], labels.device)
    for seed in range(8):
        mass = Mass(torch.tensor([16.0, 16, 9]).view(1, 3, 1, 1, 1), 8.0, 0.0)
        share = infiltration(mass, labels, labels > 0, generator(seed))
        assert float(share.min()) >= 0 and float(share.max()) <= 1
        assert float(share[(labels == 0) | (labels == 4) | (labels == 43)].max()) == 0
        inside = (share > 0.5).float()
        # The body of 8 voxels is stretched or shrunk along its axes by up to exp(0.35), and uneven.
        assert 0.2 * 4 / 3 * np.pi * 8**3 < float(inside.sum()) < 3 * 4 / 3 * np.pi * 8**3
        middle = (voxels * inside).sum(dim=(2, 3, 4)) / inside.sum()
        assert float((middle - mass.centre.flatten()).norm()) < 5
        spared += float(share[labels == 24].max()) == 0
    assert 0 < spared < 8


@pytest.mark.parametrize("family", FAMILIES)
def test_lesions_are_dark_in_t1_and_bright_elsewhere(family: str) -> None:
    rng = generator(2)
    for amount in (0.0, 0.5, 1.0):
        tissues = draw_tissues(family, rng)  # type: ignore[arg-type]
        lesion = brightness("lesion", family, tissues, amount, rng)  # type: ignore[arg-type]
        if family == "T1":
            assert lesion < tissues.white
            assert brightness("core", "T1", tissues, amount, rng) < tissues.grey
            assert tissues.fluid < brightness("infiltration", "T1", tissues, amount, rng) < tissues.grey
        else:
            assert lesion > max(tissues.white, tissues.grey)
            assert brightness("infiltration", family, tissues, amount, rng) == lesion  # type: ignore[arg-type]
        old = brightness("cavity", family, tissues, 1.0, rng)  # type: ignore[arg-type]
        assert old == pytest.approx(tissues.fluid, abs=1e-9)
