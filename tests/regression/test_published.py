"""The 2019 networks from their authors' checkpoints, against an independent re-implementation's outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from uresnet.model.network import UResNet, UResNetOutput
from uresnet.model.published import load_published
from uresnet.transform import GridConvention, apply_voxel_affine, integrate_spatial_gradients

NETWORKS = ["segmentation", "use_mask"]  # joint, registration only


@pytest.fixture(scope="module")
def reference(shared_reference: Path) -> dict[str, np.ndarray]:
    with np.load(shared_reference / "published_outputs.npz") as file:
        return {name: file[name] for name in file.files}


def run(shared_reference: Path, name: str) -> tuple[UResNet, UResNetOutput]:
    network = load_published(shared_reference / "published_weights" / f"{name}.hdf5")
    moving, fixed = torch.from_numpy(np.random.default_rng(0).random((2, 1, 1, 32, 40, 48), dtype=np.float32))
    with torch.inference_mode():
        return network, network(moving, fixed)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_affine(shared_reference: Path, reference: dict[str, np.ndarray], name: str) -> None:
    _, output = run(shared_reference, name)
    expected = reference[f"{name}_spatial_gradients"]
    assert np.abs(expected - 1).max() > 0.01  # else the comparison would say nothing
    np.testing.assert_allclose(output.spatial_gradients[0].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(output.affine[0].numpy(), reference[f"{name}_affine"], atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_sampling_grid(shared_reference: Path, reference: dict[str, np.ndarray], name: str) -> None:
    network, output = run(shared_reference, name)
    convention = GridConvention(network.config.convention)
    where = apply_voxel_affine(
        output.affine, integrate_spatial_gradients(output.spatial_gradients, convention), convention
    )
    np.testing.assert_allclose(where[0].permute(1, 2, 3, 0).numpy(), reference[f"{name}_sampling_grid"], atol=1e-4)


def test_segmentation(shared_reference: Path, reference: dict[str, np.ndarray]) -> None:
    _, output = run(shared_reference, "segmentation")
    assert output.segmentation_logits is not None
    probabilities = output.segmentation_logits[0].softmax(dim=0).numpy()
    np.testing.assert_allclose(probabilities, reference["segmentation_segmentation"], atol=1e-4)


def test_the_registration_only_network_does_not_segment(shared_reference: Path) -> None:
    assert run(shared_reference, "use_mask")[1].segmentation_logits is None


@pytest.mark.parametrize(("name", "count"), [("segmentation", 39_183), ("use_mask", 24_631)])
def test_number_of_weights(shared_reference: Path, name: str, count: int) -> None:
    network, _ = run(shared_reference, name)
    assert sum(p.numel() for p in network.parameters()) == count
