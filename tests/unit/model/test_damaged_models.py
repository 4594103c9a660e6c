"""Model files that are damaged, or claim what they do not hold, are refused in a sentence before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

from uresnet.config import ConformSpec, ModelConfig
from uresnet.errors import UserError
from uresnet.model.catalogue import METADATA_KEY, find_model
from uresnet.model.checkpoint import load_model, uresnet_card
from uresnet.model.published import load_published


@pytest.mark.parametrize(
    "change",
    [
        *({"format": "1"}, {"format": True}, {"format": 0}, {"name": 3}, {"name": ""}, {"kind": None}, {"scheme": []}),
        *({"network": []}, {"conform": 5}, {"figures": "x"}, {"classes": [1]}, {"classes": [["a", ["x"]]]}),
        *({"network": {"channels": [4096] * 8}}, {"network": {"negative_slope": float("nan")}}),
        *({"conform": {"zooms": [1, float("nan"), 1]}}, {"conform": {"shape": [4096] * 3}}, {"licence": "x" * 99_999}),
    ],
)
def test_a_card_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    card = json.loads(uresnet_card("small", ModelConfig(channels=(2, 4)), ConformSpec()).to_json()) | change
    tensors = {"a": np.zeros(2, np.float32)}
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={METADATA_KEY: json.dumps(card)})
    with pytest.raises(UserError, match=r"m\.safetensors") as caught:
        load_model(path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


def test_a_name_longer_than_any_file_has() -> None:
    for name in ("x" * 5000, "x" * 5000 + ".safetensors", "x" * 300 + ".hdf5"):
        with pytest.raises(UserError, match="There is no model") as caught:
            find_model(name)
        assert len(str(caught.value)) < 600


def test_hdf5_that_claims_gigabytes_or_lies_elsewhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["model_weights/conv3d_1/kernel:0"] = np.zeros(3)
    with h5py.File(tmp_path / "large.hdf5", "w") as file:
        file.create_dataset("conv3d_1/kernel:0", shape=(1 << 31,), dtype="f4", chunks=(1 << 20,))
    with h5py.File(tmp_path / "linked.hdf5", "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "model_weights")
    with h5py.File(tmp_path / "outside.hdf5", "w") as file:
        external = [(str(tmp_path / "other.hdf5"), 0, 12)]
        file.create_dataset("conv3d_1/kernel:0", shape=(3,), dtype="f4", external=external)
    for name in ("large", "linked", "outside", "other"):
        with pytest.raises(UserError, match=rf"{name}\.hdf5"):
            load_published(tmp_path / f"{name}.hdf5")
