"""Heads made from label maps: what is brain, where it lies, and what each change leaves of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from small_heads import PLAIN, RADIUS, heads
from small_training import STILL
from uresnet.config import BlockConfig, HeadConfig
from uresnet.preprocess import skull
from uresnet.training.examples.heads import SIDE, HeadMaker, _without_face

BLOCKS = replace(STILL, shape=(32, 32, 32))


def made(seed: int = 0, config: HeadConfig = PLAIN, blocks: BlockConfig = BLOCKS) -> tuple[np.ndarray, np.ndarray]:
    """Image and brain of one example."""
    block = HeadMaker(config, blocks, heads(2))(torch.Generator().manual_seed(seed))
    assert block.image.shape == block.classes.shape and block.classes.dtype == torch.uint8
    return block.image[0, 0].numpy(), block.classes[0, 0].numpy() > 0


def test_voxels_are_those_that_brains_are_found_on() -> None:
    assert SIDE == skull._VOXEL_MM


def test_a_head_that_nothing_is_changed_in_has_its_brain_in_the_middle() -> None:
    image, brain = made()
    assert image.shape == (32, 32, 32) and image.min() >= 0 and image.max() <= 1
    assert brain.sum() == pytest.approx(4 / 3 * np.pi * (RADIUS / SIDE) ** 3, rel=0.1)
    assert np.allclose(np.argwhere(brain).mean(0), 15.5, atol=0.6)


def test_blocks_are_no_larger_than_the_heads() -> None:
    assert made(blocks=replace(STILL, shape=(96, 32, 16)))[0].shape == (32, 32, 16)


def test_the_same_seed_gives_the_same_and_others_give_other_heads() -> None:
    everything = HeadConfig(abnormal=1, stripped=0.5, defaced=1, slices=1, cut=1)
    moving = replace(BLOCKS, rotation=20, elastic=1, translation=3, scaling=0.2, flip=0.5)
    one, same, other = (made(seed, everything, moving) for seed in (3, 3, 4))
    assert np.array_equal(one[0], same[0]) and np.array_equal(one[1], same[1])
    assert not np.array_equal(one[1], other[1])
    assert all(np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1 for image, _ in (one, other))


def test_brains_are_bright_or_dark_in_any_order() -> None:
    x = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1) - 15.5
    away = SIDE * np.sqrt((x**2).sum(-1)) / RADIUS
    darker = []
    for seed in range(8):
        image, _ = made(seed, replace(PLAIN, families=0.0))
        darker.append(image[away < 1].mean() < image[(away > 1.2) & (away < 1.5)].mean())
    assert 0 < sum(darker) < 8


def test_translation_is_in_voxels_of_the_block() -> None:
    moved = [np.argwhere(made(seed, blocks=replace(BLOCKS, translation=5))[1]).mean(0) - 15.5 for seed in range(6)]
    assert 3 < np.abs(moved).max() < 5.6


def test_a_stripped_head_is_dark_away_from_the_brain() -> None:
    image, brain = made(1, replace(PLAIN, stripped=1, noise=0))
    near = torch.nn.functional.max_pool3d(torch.from_numpy(brain).float()[None, None], 9, 1, 4)[0, 0].numpy() > 0
    plain, _ = made(1, replace(PLAIN, noise=0))
    assert plain[~near].max() > 0.1 and np.ptp(image[~near]) < 1e-6 and image[brain].std() > 0


def test_defacing_takes_what_is_in_front_and_below_and_leaves_the_brain() -> None:
    _, mask = made()
    brain = torch.from_numpy(mask)[None, None]
    for seed in range(6):
        kept = _without_face(brain, torch.Generator().manual_seed(seed))[0, 0].numpy()
        where = np.argwhere(~kept).mean(0) - 15.5
        assert kept[mask].all() and (~kept).sum() > 100 and where[1] > 1 and where[2] < -1
    nothing = torch.zeros_like(brain)
    assert bool(_without_face(nothing, torch.Generator().manual_seed(0)).all())
    # Where the face was, the image is as dark as it gets.
    image, _ = made(2, replace(PLAIN, defaced=1, noise=0, bias=0))
    assert np.ptp(image[:, -4:, :4]) < 1e-6


def test_what_a_cut_field_of_view_leaves_out_is_no_brain() -> None:
    image, brain = made(5, replace(PLAIN, cut=1, cut_share=0.5, noise=0))
    whole = made(5, replace(PLAIN, noise=0))[1]
    assert brain.sum() < whole.sum() and not (brain & ~whole).any()
    assert np.ptp(image[whole & ~brain]) < 1e-6
