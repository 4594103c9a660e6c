"""The training of networks that take a pair: the models that it writes, and the rates of the heads."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from small_training import SMALL, assert_identical, blobs, config, trainer, weights
from uresnet.config import AbnormalConfig, ConformSpec, Stage
from uresnet.model.checkpoint import load_model
from uresnet.training.context import ModelDescription, TrainingContext
from uresnet.training.events import Event
from uresnet.training.objective import at_resolution
from uresnet.training.pair_trainer import PairTrainer
from uresnet.training.validation import Validation


def test_the_result_is_a_model(tmp_path: Path) -> None:
    events: list[Event] = []
    small = trainer(config(), tmp_path, events)
    small.run()
    model = load_model(tmp_path / "best.safetensors")
    assert model.scheme is not None
    assert model.scheme.name == "tissue3"
    found = [e for e in events if isinstance(e, Validation)]
    assert found[-1].is_best
    assert model.card.figures["registration Dice, 15 structures"] == round(found[-1].registration, 4)
    assert_identical(weights(small), {k: v.contiguous() for k, v in model.network.state_dict().items()})


def test_a_training_on_blocks_makes_a_model_that_sees_blocks(tmp_path: Path) -> None:
    small = trainer(config(epochs=1, stages=(Stage(2),)), tmp_path)
    with torch.no_grad():
        small.network.affine_head.dense.bias.fill_(0.3)
    small.save("best")
    model = load_model(tmp_path / "best.safetensors")
    assert (model.conform.blocks, model.conform.multiple_of) == (2, 8)
    pair = torch.rand(2, 1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, loaded = at_resolution(small.network(*pair), 2), model.network(*pair)
    # The same translation, in voxels of the blocks; matrix and gradients have no unit.
    torch.testing.assert_close(loaded.affine, trained.affine)
    torch.testing.assert_close(loaded.spatial_gradients, trained.spatial_gradients)
    assert float(trained.affine[0, 0, 3]) == pytest.approx(0.3 * small.config.model.affine_translation_scale / 2)


def test_abnormal_tissue_is_painted_and_learned_as_a_class(tmp_path: Path) -> None:
    """Two masses a pair, where both are asked for; the labels hold their ids, and the model knows the class."""
    settings = replace(config(epochs=1), model=replace(SMALL, scheme="tissue3_abnormal"))
    masses = AbnormalConfig(moving=1.0, fixed=1.0, mass=1.0, mass_radius=(3.0, 3.0))
    small = trainer(replace(settings, abnormal=masses), tmp_path)
    batch = small._next_batch(0)
    for labels in (batch.moving_labels, batch.fixed_labels):
        assert bool(torch.isin(labels, torch.tensor([25, 57], dtype=torch.uint8)).any())
    healthy = trainer(replace(settings, abnormal=replace(masses, moving=0.0, fixed=0.0)), tmp_path)._next_batch(0)
    plain = trainer(settings, tmp_path)._next_batch(0)
    assert torch.equal(healthy.moving_labels, plain.moving_labels) and torch.equal(healthy.moving, plain.moving)
    first, second = small.validate(), small.validate()
    assert first is not None and second is not None
    assert len(first.segmentation) == 4 and not any(math.isnan(dice) for dice in first.segmentation)
    assert first.segmentation == second.segmentation and first.mse == second.mse
    small.run()
    model = load_model(tmp_path / "best.safetensors")
    assert model.scheme is not None and model.scheme.ids == (2, 3, 4, 25)
    assert "segmentation Dice, Lesion" in model.card.figures


def test_a_mass_is_as_large_on_blocks(tmp_path: Path) -> None:
    """The radius is in millimetres of the world, whatever the voxels and the stage."""
    conform = ConformSpec(zooms=(2.0, 2.0, 2.0), blocks=2, multiple_of=4)
    context = TrainingContext(tmp_path, description=ModelDescription(conform=conform))
    settings = replace(config(stages=(Stage(2),)), abnormal=AbnormalConfig())
    painter = PairTrainer(settings, blobs(4), None, context)._painter(2)
    assert painter is not None and painter.voxel_mm == pytest.approx(4.0) and painter.downsampling == 2


def test_heads_have_their_own_rates(tmp_path: Path) -> None:
    small = trainer(config(affine_rate=0.5, deformable_rate=0.0, learning_rate=1e-2), tmp_path)
    last: Any = small.network.deformable_head.layers[-1].weight
    before = last.detach().clone()
    small.step()
    assert torch.equal(last, before)
    # Adam's first step is the rate itself, whatever the gradient's size
    moved = small.network.affine_head.dense.bias.detach().abs().max()
    assert moved.item() == pytest.approx(5e-3, rel=1e-3)
