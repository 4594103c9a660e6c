"""A training set and trainers so small that a CPU needs seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from uresnet.config import AugmentConfig, BlockConfig, Config, LossConfig, ModelConfig, TrainingConfig
from uresnet.training.context import TrainingContext
from uresnet.training.data.dataset import Scan, write_index, write_scan
from uresnet.training.data.store import DeviceStore
from uresnet.training.events import Event
from uresnet.training.pair_trainer import PairTrainer

SHAPE = (16, 12, 16)
SMALL = ModelConfig(channels=(2, 4))
LOSSES = LossConfig(lcc_window=5, gamma=3.0, delta=1.0)
AUGMENTED = AugmentConfig(rotation=10, scaling=0.1, translation=1, elastic=1, elastic_spacing=8, flip=0.5, noise=0.02)

STILL = BlockConfig(
    shape=(16, 16, 16),
    synthetic=0.0,
    rotation=0.0,
    rare=0.0,
    scaling=0.0,
    shear=0.0,
    translation=0.0,
    elastic=0.0,
    ventricles=0.0,
    flip=0.0,
    gamma=0.0,
    brightness=0.0,
    bias=0.0,
    noise=0.0,
    blur=0.0,
    thick_slices=0.0,
)
"""Blocks that nothing is changed in."""


def blobs(count: int, seed: int = 0) -> DeviceStore:
    """Brains of three nested ellipsoids of different brightness: cortex, white matter, ventricle."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    images, labels = [], []
    for _ in range(count):
        centre = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
        radius = np.sqrt((((grid - centre) / np.array([6, 5, 6]) / rng.uniform(0.9, 1.1, 3)) ** 2).sum(-1))
        label = np.select([radius < 0.35, radius < 0.75, radius < 1], [4, 2, 3], 0)
        brightness = np.select([label == 4, label == 2, label == 3], [60, 220, 140], 0)
        images.append(np.where(label > 0, brightness + rng.integers(-8, 8, SHAPE), 0))
        labels.append(label)
    scans = tuple(Scan(str(n), str(n), "train") for n in range(count))
    stacked = [torch.from_numpy(np.stack(x).astype(np.uint8))[:, None] for x in (images, labels)]
    return DeviceStore(scans, stacked[0], stacked[1], 1 / 255)


def cubes(count: int, seed: int = 0) -> DeviceStore:
    """The blobs of other tests on a cube of 16 voxels, as blocks want them."""
    small = blobs(count, seed)
    pad = (0, 0, 2, 2)
    return replace(
        small, images=torch.nn.functional.pad(small.images, pad), labels=torch.nn.functional.pad(small.labels, pad)
    )


def config(**training: object) -> Config:
    defaults = {"epochs": 2, "learning_rate": 5e-3, "validate_every_minutes": 1e9, "checkpoint_every_minutes": 1e9}
    return Config(model=SMALL, losses=LOSSES, training=TrainingConfig(**{**defaults, **training}))  # type: ignore[arg-type]


def trainer(settings: Config, folder: Path, events: list[Event] | None = None, validation: int = 2) -> PairTrainer:
    kept = [] if events is None else events
    scans_to_validate = blobs(validation, 9) if validation else None
    return PairTrainer(settings, blobs(4), scans_to_validate, TrainingContext(folder, kept.append))


def weights(of: PairTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.network.state_dict().items()}


def assert_identical(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def write_data(folder: Path, side: int, heads: bool = False, other: bool = False) -> Path:
    """Four made-up brains, or ``heads``, on a cube of ``side`` voxels, two to train on; with one of an ``other``
    contrast, whose T1 is known, to train on too."""
    shape = (side, side, side)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    scans = []
    for n in range(4):
        away = np.sqrt((((grid - side / 2) / (side * np.array([0.4, 0.4, 0.4 + 0.02 * n]))) ** 2).sum(-1))
        labels = np.select([away < 0.3, away < 0.75, away < 1], [4, 2, 3], 0)
        scans.append(Scan(f"s{n}", f"p{n}", "train" if n < 2 else "val"))
        write_scan(folder, scans[-1], np.select([labels == 4, labels == 2, labels == 3], [0.2, 0.9, 0.5], 0.0), labels)
    if other:
        scans.append(Scan("other", "p0", "train", has_t1=True))
        write_scan(folder, scans[-1], (labels == 2) * 0.5, labels, t1=(labels == 2) * 0.9)
    write_index(folder, shape, scans, heads=heads)
    return folder
