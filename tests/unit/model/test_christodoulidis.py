"""The baseline of 2018: its size, reach and start, and that all of the package takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from brains import COARSE, FIELDS_OF_VIEW, brain_on
from small_training import SHAPE, blobs, config
from uresnet.config import ModelConfig, config_from_dict
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.model import christodoulidis
from uresnet.model.checkpoint import load_model, save_model, uresnet_card
from uresnet.model.christodoulidis import Christodoulidis
from uresnet.pipeline.register import register
from uresnet.training.context import TrainingContext
from uresnet.training.pair_trainer import PairTrainer

CONFIG = ModelConfig(network="christodoulidis", segmentation=False)


@pytest.fixture
def network() -> Christodoulidis:
    torch.manual_seed(0)
    return Christodoulidis(CONFIG).eval()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Christodoulidis:
    """The same with few channels, for what takes long."""
    monkeypatch.setattr(christodoulidis, "CHANNELS", (2, 4, 6, 2, 2))
    monkeypatch.setattr(christodoulidis, "DECODER", (8, 4, 4, 4, 4))
    torch.manual_seed(0)
    return Christodoulidis(CONFIG).eval()


def test_the_number_of_weights_by_hand(network: Christodoulidis) -> None:
    def block(a: int, b: int) -> int:
        return 27 * a * b + 2 * b  # no bias; scale and offset of the normalisation

    encoder = block(2, 32) + block(32, 64) + block(64, 128) + block(128, 32) + block(32, 32)
    excitation = 290 * 18 + 18 + 18 * 290 + 290
    decoder = block(290, 128) + block(128, 64) + block(64, 32) + 2 * block(32, 32) + 27 * 32 * 3 + 3
    assert sum(p.numel() for p in network.parameters()) == encoder + excitation + decoder + 290 * 12 + 12 == 1_768_451


def test_290_features_that_see_25_voxels_a_side(network: Christodoulidis) -> None:
    for parent in list(network.modules()):  # the normalisation looks at everything: out of the way
        for name, child in parent.named_children():
            if isinstance(child, nn.InstanceNorm3d):
                setattr(parent, name, nn.Identity())
    moving = torch.rand(1, 1, 31, 31, 31, requires_grad=True)
    features = network.features(moving, torch.rand(1, 1, 31, 31, 31))
    assert features.shape == (1, 290, 31, 31, 31)
    features[0, -1, 15, 15, 15].backward()
    assert moving.grad is not None
    seen = moving.grad[0, 0].nonzero()
    assert (seen.min(0).values.tolist(), seen.max(0).values.tolist()) == ([3, 3, 3], [27, 27, 27])


def test_it_starts_at_the_identity_and_stays_in_range(network: Christodoulidis) -> None:
    pair = torch.rand(1, 1, 9, 10, 11), torch.rand(1, 1, 9, 10, 11)
    output = network(*pair)
    assert torch.equal(output.spatial_gradients, torch.ones(1, 3, 9, 10, 11))
    assert torch.equal(output.affine, torch.eye(3, 4)[None])
    assert output.segmentation_logits is None
    nn.init.normal_(network.deformable_head.get_parameter("layers.5.weight"), std=5.0)
    gradients = network(*pair).spatial_gradients
    assert gradients.min() < 0.1 and gradients.max() > 1.9 and gradients.min() >= 0 and gradients.max() <= 2
    with pytest.raises(ValueError, match="one shape"):
        network(pair[0], torch.rand(1, 1, 8, 8, 8))


def test_it_does_not_segment() -> None:
    with pytest.raises(UserError, match=r"does not segment: set model\.segmentation to false"):
        config_from_dict({"model": {"network": "christodoulidis"}})


def test_a_file_of_it_registers(narrow: Christodoulidis, tmp_path: Path) -> None:
    nn.init.normal_(narrow.deformable_head.get_parameter("layers.5.weight"), std=0.1)
    save_model(tmp_path / "one.safetensors", narrow, uresnet_card("one", CONFIG, COARSE))
    model = load_model(tmp_path / "one.safetensors")
    assert (model.card.kind, model.scheme) == ("christodoulidis", None)
    grids = FIELDS_OF_VIEW["RAS"], FIELDS_OF_VIEW["LPS"]
    done = register(*(Image(torch.from_numpy(brain_on(g)), g) for g in grids), model=model, brain="none")
    assert done.warped.grid.same_as(grids[1]) and done.warped_segmentation is None
    assert done.measures.sd_log_jacobian > 0.01  # it deforms
    assert done.measures.overlap_after > 0.7


def test_training_lowers_its_loss_and_makes_a_model(narrow: Christodoulidis, tmp_path: Path) -> None:
    settings = replace(config(epochs=20, learning_rate=1e-3), model=CONFIG)
    trainer = PairTrainer(settings, blobs(4), blobs(2, 9), TrainingContext(tmp_path))
    before = trainer.validate()
    assert trainer.run()
    after = trainer.validate()
    assert before is not None and after is not None
    assert after.mse < 0.98 * before.mse
    model = load_model(tmp_path / "last.safetensors")
    assert (model.card.kind, model.scheme) == ("christodoulidis", None)
    pair = torch.rand(1, 1, *SHAPE), torch.rand(1, 1, *SHAPE)
    learned = trainer.network.eval()(*pair).spatial_gradients.detach()
    torch.testing.assert_close(model.network(*pair).spatial_gradients, learned, atol=1e-4, rtol=0)
    assert (learned - 1).abs().max() > 1e-3


def test_a_state_of_the_other_network_is_refused(narrow: Christodoulidis, tmp_path: Path) -> None:
    PairTrainer(replace(config(), model=CONFIG), blobs(2), None, TrainingContext(tmp_path)).save_state()
    other = PairTrainer(config(), blobs(2), None, TrainingContext(tmp_path))
    with pytest.raises(UserError, match="the state of another network"):
        other.resume(tmp_path / "last.resume.safetensors")
