"""Brains made from label maps, for a segmenter: their classes, and what brain extraction leaves of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from small_heads import PLAIN, RADIUS, heads
from small_training import STILL
from uresnet.config import BlockConfig, HeadConfig
from uresnet.core.labels import SCHEMES
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.training.examples.heads import SIDE
from uresnet.training.examples.structures import StructureMaker

BLOCKS = replace(STILL, shape=(32, 32, 32))
SCHEME = SCHEMES["freesurfer32"]
CLASS = {label.id: c for c, label in enumerate(SCHEME.classes, start=1)}


def made(
    seed: int = 0, config: HeadConfig = PLAIN, blocks: BlockConfig = BLOCKS, store: DeviceStore | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Image and classes of one example."""
    block = StructureMaker(config, blocks, store or heads(2), SCHEME)(torch.Generator().manual_seed(seed))
    assert block.image.shape == block.classes.shape and block.classes.dtype == torch.uint8
    return block.image[0, 0].numpy(), block.classes[0, 0].numpy()


def away() -> np.ndarray:
    """Distance from the middle of a block, in radii of the brain."""
    x = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1) - 15.5
    return SIDE * np.sqrt((x**2).sum(-1)) / RADIUS


def test_structures_lie_where_the_label_map_has_them_and_the_head_is_gone() -> None:
    for seed in range(6):
        image, classes = made(seed)
        assert set(np.unique(classes)) == {0, CLASS[2], CLASS[3], CLASS[4]}
        assert (classes[away() < 0.2] == CLASS[4]).all() and (
            classes[(away() > 0.4) & (away() < 0.65)] == CLASS[2]
        ).all()
        assert not classes[away() > 1.1].any()
        # A rim of two or three voxels may be left.
        assert not image[away() > 1.6].any() and image[away() < 0.8].mean() > 0 and image.max() <= 1


def test_what_is_left_around_the_brain_differs() -> None:
    maker = StructureMaker(PLAIN, BLOCKS, heads(1), SCHEME)
    labels = torch.from_numpy(np.select([away() < 1, away() < 1.15], [3, 24], 0).astype(np.uint8))[None, None]
    brain, generator = torch.from_numpy(away() < 1.15)[None, None], torch.Generator().manual_seed(0)
    left = [int(maker._extracted(labels, brain, generator).sum()) for _ in range(60)]
    tissue, with_fluid = int((labels == 3).sum()), int(brain.sum())
    assert 10 < left.count(with_fluid) < 30  # as it was drawn, a third
    assert 10 < sum(abs(n - tissue) < 0.02 * tissue for n in left) < 30  # tissue alone
    assert max(left) > 1.05 * with_fluid


def test_left_and_right_change_sides_in_a_mirrored_brain() -> None:
    store = heads(1)
    half = store.labels.shape[2] // 2
    right = store.labels[:, :, half:]
    right[:] = torch.where(right < 10, torch.tensor([0, 0, 41, 42, 43, 0, 0, 0, 0, 0])[right.int() % 10], right)
    sides = {}
    for flip in (0.0, 1.0):
        _, classes = made(1, blocks=replace(BLOCKS, flip=flip), store=store)
        sides[flip] = [int((classes[part] == CLASS[3]).sum()) for part in (slice(0, 16), slice(16, 32))]
    assert sides[0.0] == pytest.approx(sides[1.0], rel=0.1) and sides[0.0][0] > 100 and sides[0.0][1] == 0


def test_fluid_is_taught_where_it_is_seen_and_doubtful_labels_are_not_judged() -> None:
    store = heads(1)
    labels = store.labels[0, 0]
    labels[labels == 211] = 24  # fluid around the brain
    labels[30:34, 30:34, 30:34] = 77
    outside = 0
    for seed in range(8):
        image, classes = made(seed, store=store)
        fluid = classes == CLASS[24]
        assert (image[fluid] > 0).any() == fluid.any() and not (fluid & (away() < 0.9)).any()
        outside += int(fluid.sum())
        assert (classes[15:17, 15:17, 15:17] == NOT_JUDGED).all()
    assert outside > 0


def test_the_same_seed_gives_the_same_and_others_give_other_brains() -> None:
    everything = HeadConfig(find="structures", abnormal=1, slices=1, cut=1)
    moving = replace(BLOCKS, rotation=20, elastic=1, translation=3, scaling=0.2, flip=0.5, ventricles=1.0)
    one, same, other = (made(seed, everything, moving) for seed in (3, 3, 4))
    assert np.array_equal(one[0], same[0]) and np.array_equal(one[1], same[1])
    assert not np.array_equal(one[1], other[1])
    assert all(np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1 for image, _ in (one, other))


def test_ventricles_grow() -> None:
    sizes = []
    for growth in (0.0, 8.0):
        wider = replace(BLOCKS, ventricles=1.0, ventricle_growth=(growth, growth))
        sizes.append(int((made(0, blocks=wider)[1] == CLASS[4]).sum()))
    assert sizes[1] > 1.3 * sizes[0]


def test_contrasts_may_be_t1_alone() -> None:
    """White matter is brighter than cortex, and cortex brighter than fluid."""
    for seed in range(6):
        image, _ = made(seed, replace(PLAIN, families=1.0, t1=1.0, bias=0.0))
        fluid, white, cortex = (
            float(np.median(image[(away() > low) & (away() < high)]))
            for low, high in ((0, 0.2), (0.4, 0.65), (0.85, 0.95))
        )
        assert fluid < cortex < white
    assert pytest.approx(0.25) == HeadConfig().t1  # of four contrasts each is as frequent
