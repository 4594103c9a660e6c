"""The reader of Keras checkpoints, on files written here; the real ones are in ``tests/regression``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from uresnet.config import ModelConfig
from uresnet.errors import UserError
from uresnet.model.network import UResNet
from uresnet.model.published import _in_keras_order, load_published


def write(path: Path, network: UResNet, nested: str = "model_weights/some_model/") -> Path:
    """A network as Keras 2.2.4 would have saved it."""
    with h5py.File(path, "w") as file:
        for name, layer in _in_keras_order(network).items():
            weight = layer.weight.detach().numpy()
            kernel = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 4, 1, 0)
            file[f"{nested}{name}/kernel:0"] = kernel
            file[f"{nested}{name}/bias:0"] = layer.bias.detach().numpy()
    return path


def randomised(config: ModelConfig) -> UResNet:
    torch.manual_seed(5)
    network = UResNet(config)
    for p in network.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    return network


@pytest.mark.parametrize("segmentation", [True, False])
@pytest.mark.parametrize("nested", ["model_weights/some_model/", "model_1/", ""])
def test_weights_come_back_in_their_places(tmp_path: Path, segmentation: bool, nested: str) -> None:
    network = randomised(ModelConfig(segmentation=segmentation))
    read = load_published(write(tmp_path / "a.hdf5", network, nested))
    assert read.config.segmentation == segmentation
    assert read.config.convention == "published_2019"
    for (name, mine), (_, theirs) in zip(network.named_parameters(), read.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_network_of_another_depth_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.hdf5", randomised(ModelConfig(channels=(4, 8, 16, 32))))
    with pytest.raises(UserError, match=r"deep\.hdf5 is not one of the published"):
        load_published(path)


def test_a_network_of_another_width_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.hdf5", randomised(ModelConfig(channels=(8, 16, 32))))
    with pytest.raises(UserError, match="another shape"):
        load_published(path)


def test_a_layer_without_bias_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", randomised(ModelConfig()), "")
    with h5py.File(path, "a") as file:
        del file["conv3d_3/bias:0"]
    with pytest.raises(UserError, match="lacks its kernel or bias"):
        load_published(path)


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.hdf5"
    path.write_bytes(np.arange(100).tobytes())
    with pytest.raises(UserError, match="cannot be read"):
        load_published(path)
