"""Random blocks: what the segmenter sees of scans and of label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from label_maps import write_map
from small_training import STILL, cubes
from uresnet.config import BlockConfig, ConformSpec
from uresnet.core.labels import SCHEMES
from uresnet.training.data.classes import class_table
from uresnet.training.data.label_maps import read_label_maps
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.blocks import NOT_JUDGED, BlockMaker

SCHEME = SCHEMES["freesurfer32"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_block_that_nothing_happens_to_is_the_scan() -> None:
    store = cubes(1)
    block = BlockMaker(STILL, store, None, SCHEME)(generator())
    torch.testing.assert_close(block.image, store.images.float() / 255)
    assert torch.equal(block.classes.long(), class_table(SCHEME)[store.labels.long()])


def test_mirroring_exchanges_sides_and_classes() -> None:
    store = cubes(1)
    block = BlockMaker(replace(STILL, flip=1.0), store, None, SCHEME)(generator())
    mirrored = torch.tensor(SCHEME.mirrored)[class_table(SCHEME)[store.labels.long()]].flip(2)
    torch.testing.assert_close(block.image, (store.images.float() / 255).flip(2))
    assert torch.equal(block.classes.long(), mirrored)


def test_ventricles_grow_by_about_what_is_asked_for() -> None:
    """A ball of 10 mm radius whose surface moves out by 4 mm: each voxel reads that much nearer to the middle."""
    grid = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1)
    away = np.sqrt(((grid - 31.5) ** 2).sum(-1))
    labels = torch.from_numpy(np.where(away < 10, 4, np.where(away < 30, 2, 0)).astype(np.uint8))[None, None]
    store = DeviceStore(cubes(1).scans, (labels > 0).to(torch.uint8) * 200, labels, 1 / 255)
    config = replace(STILL, shape=(64, 64, 64), ventricles=1.0, ventricle_growth=(4.0, 4.0))
    block = BlockMaker(config, store, None, SCHEME)(generator())
    lv = [one.id for one in SCHEME.classes].index(4) + 1
    radius = (float((block.classes == lv).sum()) * 3 / 4 / np.pi) ** (1 / 3)
    assert 13.0 < radius < 14.5


def test_the_same_generator_gives_the_same_block() -> None:
    maker = BlockMaker(replace(BlockConfig(), shape=(16, 16, 16)), cubes(2), None, SCHEME)
    first, again, different = (maker(generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.image, again.image) and torch.equal(first.classes, again.classes)
    assert not torch.equal(first.image, different.image)


def test_synthetic_blocks_leave_fluid_and_lesions_unjudged(tmp_path: Path) -> None:
    write_map(tmp_path / "a.nii.gz")
    maps = read_label_maps(tmp_path, ConformSpec(shape=(48, 48, 48), axis_codes=("R", "A", "S"), centre="box"))
    config = replace(STILL, shape=(48, 48, 48), synthetic=1.0, grey_variation=0.0)
    block = BlockMaker(config, cubes(2), maps, SCHEME)(generator())
    unsure = (maps == 24) | (maps == 25)
    assert bool((block.classes[unsure] == NOT_JUDGED).all()) and not bool((block.classes[~unsure] == NOT_JUDGED).any())
    # White matter is painted as bright as the scans have it.
    inside = block.image[maps == 2]
    assert abs(float(inside.median()) - 220 / 255) < 0.05
