"""Random changes of training images: images and labels together, sides exchanged properly, and the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.config import AugmentConfig
from uresnet.training.examples.augment import Augmenter
from uresnet.training.examples.geometry import mirror, mirror_slope, ventricle_slope

SHAPE = (24, 20, 28)
MOVES = [
    {"rotation": 15.0},
    {"scaling": 0.15},
    {"shear": 0.1},
    {"translation": 3.0},
    {"elastic": 1.5, "elastic_spacing": 8},
    {"rotation": 10.0, "scaling": 0.1, "translation": 2.0, "elastic": 1.0, "elastic_spacing": 8},
]
CHANGES = [{"gamma": 0.5}, {"brightness": 0.5}, {"bias": 0.2}, {"noise": 0.05}]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box() -> tuple[torch.Tensor, torch.Tensor]:
    """A box off the centre whose voxels are 1 in the image and 17 in the labels; nothing elsewhere."""
    image = torch.zeros(1, 1, *SHAPE)
    image[..., 6:15, 5:14, 9:20] = 1.0
    return image, (image * 17).to(torch.uint8)


def run(settings: dict, images: torch.Tensor, labels: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return Augmenter(AugmentConfig(**settings))(images, labels, seeded(seed))


@pytest.mark.parametrize("settings", MOVES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_move_with_the_image(settings: dict, seed: int) -> None:
    image, labels = box()
    moved, moved_labels = run(settings, image, labels, seed)
    assert (moved - image).abs().max() > 0.3  # it did move
    # An image of its own labels: after the move, what is more than half bright is what is labelled.
    bright = moved > 0.5
    assert set(moved_labels.unique().tolist()) == {0, 17}
    differ = (bright != (moved_labels == 17)).float().mean().item()
    assert differ < 0.01  # single voxels of the surface, where nearest and linear round differently
    assert (moved > 0.999)[moved_labels == 0].sum() == 0


@pytest.mark.parametrize("settings", MOVES, ids=str)
def test_fine_labels_move_with_the_image_of_their_blocks(settings: dict) -> None:
    image, labels = box()
    fine = labels.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    augmenter, bias = Augmenter(AugmentConfig(**settings), downsampling=2), []
    for seed in range(8):
        moved, moved_fine = augmenter(image, fine, seeded(seed))
        assert moved_fine.shape == fine.shape
        shares = torch.nn.functional.avg_pool3d((moved_fine == 17).float(), 2)
        assert (moved - image).abs().max() > 0.3
        # Both are the box, one interpolated linearly, one read in eighths: apart at its surface alone, by half a voxel.
        assert (shares - moved).abs().mean() < 0.01
        bias.append(float((shares - moved).mean()))
    assert abs(np.mean(bias)) < 0.0015


@pytest.mark.parametrize("settings", CHANGES, ids=str)
def test_intensities_change_where_the_brain_is_and_labels_never(settings: dict) -> None:
    image, labels = box()
    image = image * torch.rand(image.shape, generator=seeded(4)).clamp(0.2, 0.8)
    changed, kept = run(settings, image, labels, seed=3)
    assert torch.equal(kept, labels)
    # a draw near zero may change little; not all do
    assert max((run(settings, image, labels, seed)[0] - image).abs().max() for seed in range(5)) > 0.02
    assert (changed[image == 0] == 0).all()
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_nothing_is_configured_nothing_happens() -> None:
    image, labels = box()
    changed, kept = run({}, image, labels)
    assert torch.equal(changed, image)
    assert torch.equal(kept, labels)
    assert not any(Augmenter(AugmentConfig()).flips(seeded(n)) for n in range(20))


@pytest.mark.parametrize("settings", [*MOVES, *CHANGES], ids=str)
def test_a_seed_decides_everything(settings: dict) -> None:
    image, labels = box()
    image = image * torch.rand(image.shape, generator=seeded(4)).clamp(0.2, 0.8)
    first, again, other = (run(settings, image, labels, seed)[0] for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_translation_on_coarser_voxels_is_as_many_millimetres() -> None:
    for seed in range(3):
        fine = Augmenter(AugmentConfig(translation=4.0))._affine(1, seeded(seed))[1]
        coarse = Augmenter(AugmentConfig(translation=4.0), downsampling=2)._affine(1, seeded(seed))[1]
        torch.testing.assert_close(coarse * 2, fine)


def test_rotation_is_a_rotation_of_at_most_so_many_degrees() -> None:
    for seed in range(5):
        matrix, shift = Augmenter(AugmentConfig(rotation=20.0))._affine(2, seeded(seed))
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(2))
        angle = torch.rad2deg(torch.arccos(((matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
        assert angle.max() <= 20 * 3**0.5
        assert (shift == 0).all()


def test_how_often_pairs_are_mirrored() -> None:
    found = np.mean([Augmenter(AugmentConfig(flip=0.25)).flips(seeded(n)) for n in range(400)])
    assert 0.17 < found < 0.33


def ventricle() -> tuple[torch.Tensor, torch.Tensor]:
    """A bright brain (17) round a dark left ventricle (4) off the centre."""
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)
    labels[..., 2:-2, 2:-2, 2:-2] = 17
    labels[..., 5:10, 7:13, 9:17] = 4
    return (labels == 17).float() * 0.8 + (labels == 4).float() * 0.2, labels


@pytest.mark.parametrize("downsampling", [1, 2])
@pytest.mark.parametrize("mirrored", [False, True])
def test_ventricles_grow_in_image_and_labels_alike(downsampling: int, mirrored: bool) -> None:
    image, labels = ventricle()
    if downsampling == 2:
        labels = labels.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    slope = ventricle_slope(labels[0])
    if mirrored:
        image, labels = mirror(image, labels)
        slope = mirror_slope(slope)
    there = 43 if mirrored else 4
    sizes = []
    for growth in (0.0, 2.0, 4.0):
        augmenter = Augmenter(AugmentConfig(ventricles=1.0, ventricle_growth=(growth, growth)), downsampling)
        moved, moved_labels = augmenter(image, labels, seeded(), slope)
        sizes.append(int((moved_labels == there).sum()))
        shares = torch.nn.functional.avg_pool3d((moved_labels == there).float(), downsampling)
        inside = (..., slice(4, -4), slice(4, -4), slice(4, -4))
        dark = (moved < 0.5).float()[inside]
        assert float(dark[shares[inside] > 0.99].mean()) > 0.9
        assert float(dark[shares[inside] < 0.01].mean()) < 0.1
    assert sizes[0] == int((labels == there).sum())
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] > 1.4 * sizes[0]


def test_without_a_slope_or_a_chance_no_ventricle_grows() -> None:
    image, labels = ventricle()
    for chance, slope in ((1.0, None), (0.0, ventricle_slope(labels[0]))):
        settings = AugmentConfig(ventricles=chance, ventricle_growth=(4.0, 4.0), translation=1e-9)
        assert torch.equal(Augmenter(settings)(image, labels, seeded(), slope)[1], labels)
