"""Abnormal tissue painted into a scan: where, how much, how bright, and what a mass pushes away."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from uresnet.config import AbnormalConfig
from uresnet.training.examples.painted_scans import ScanPainter

N = 32
GREYS = torch.zeros(256)
LESIONS = AbnormalConfig(mass=0.0, lesion_portion=(0.1, 0.1))
ABNORMAL = torch.tensor([25, 57, 77], dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scan(side: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A ball of white matter (0.9) in cortex (0.5) round a ventricle (0.1); images are means over blocks."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(N)] * 3, indexing="ij")).float()
    away = (grid - (N - 1) / 2).norm(dim=0) / (N / 2)
    labels = torch.zeros((1, 1, N, N, N), dtype=torch.uint8)
    image = torch.zeros(1, 1, N, N, N)
    for reach, left, right, value in ((0.95, 3, 42, 0.5), (0.8, 2, 41, 0.9), (0.25, 4, 43, 0.1)):
        sided = torch.where(grid[0] < N / 2, left, right).to(torch.uint8)
        labels[0, 0][away < reach] = sided[away < reach]
        image[0, 0][away < reach] = value
    return F.avg_pool3d(image, side), labels


@pytest.mark.parametrize("side", [1, 2])
def test_lesions_are_darker_white_matter_and_nothing_else_changes(side: int) -> None:
    image, labels = scan(side)
    painted, ids = ScanPainter(LESIONS, GREYS, 1.0, side)(image, labels, generator())
    white = torch.isin(labels, torch.tensor([2, 41], dtype=torch.uint8))
    assert int((ids == 77).sum()) == round(0.1 * int(white.sum()))
    assert bool((white[ids == 77]).all())
    assert torch.equal(ids[ids != 77], labels[ids != 77])
    share = F.avg_pool3d((ids == 77).float(), side)
    assert float((painted - image)[share == 1].mean()) < -0.1
    far = F.max_pool3d(share, 9 // side | 1, 1, 9 // side // 2) == 0
    assert far.any() and torch.equal(painted[far * (image == 0)], image[far * (image == 0)])
    assert painted.shape == image.shape and float(painted.min()) >= 0 and float(painted.max()) <= 1


@pytest.mark.parametrize("side", [1, 2])
def test_a_mass_has_the_radius_in_millimetres(side: int) -> None:
    """Twelve millimetres on voxels of two are six voxels, whatever blocks the image has; its surface is uneven."""
    config = AbnormalConfig(mass=1.0, mass_radius=(12.0, 12.0))
    image, labels = scan(side)
    painter, largest = ScanPainter(config, GREYS, 2.0, side), 0
    for seed in range(6):
        painted, ids = painter(image, labels, generator(seed))
        assert painted.shape == image.shape
        assert set(ids.unique().tolist()) <= {0, 2, 41, 3, 42, 4, 43, 25, 57, 77}
        largest = max(largest, int(torch.isin(ids, ABNORMAL[:2]).sum()))
    ball = 4 / 3 * math.pi * 6**3  # no larger than this, but for its surface, and cut off where the brain ends
    assert 0.5 * ball < largest < 1.6 * ball


def test_a_mass_pushes_image_and_labels_alike() -> None:
    """Outside of what is painted, the image still has the brightness of its labels, but for edges, which are soft."""
    image, labels = scan()
    painter = ScanPainter(AbnormalConfig(mass=1.0, mass_radius=(7.0, 9.0)), GREYS, 1.0)
    moved = 0
    for seed in range(6):
        painted, ids = painter(image, labels, generator(seed))
        healthy = F.max_pool3d(torch.isin(ids, ABNORMAL).float(), 7, 1, 3) == 0
        moved += int(((ids != labels) & healthy).sum())
        for structures, value in (((2, 41), 0.9), ((3, 42), 0.5)):
            inside = torch.isin(ids, torch.tensor(structures, dtype=torch.uint8)) & healthy
            deep = F.max_pool3d((~inside).float(), 3, 1, 1) == 0
            if deep.any():
                assert float((painted[deep] - value).abs().mean()) < 0.02
    assert moved > 100


def test_the_same_numbers_paint_the_same() -> None:
    image, labels = scan()
    painter = ScanPainter(AbnormalConfig(), GREYS, 1.0)
    one, other = (painter(image, labels, generator(3)) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(one[1], painter(image, labels, generator(4))[1])


def test_nothing_is_painted_where_there_is_no_brain() -> None:
    empty = torch.zeros(1, 1, 8, 8, 8)
    for seed in range(4):
        painted, ids = ScanPainter(AbnormalConfig(mass=0.5), GREYS, 1.0)(empty, empty.to(torch.uint8), generator(seed))
        assert not ids.any() and not painted.any()
