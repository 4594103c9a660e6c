"""The segmenter that sees blocks of voxels: where its logits lie, slabs, and files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import ConformSpec, SegmenterConfig, to_dict
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.labels import SCHEMES
from uresnet.model import coarse_segmenter
from uresnet.model.catalogue import ModelCard
from uresnet.model.checkpoint import MIDSPACE, load_model, save_model
from uresnet.model.coarse_segmenter import CoarseSegmenter
from uresnet.model.segmenter import Segmenter

CONFIG = SegmenterConfig(channels=(6, 8), blocks=(1, 1), hidden=10, classes=5, downsampling=2)


@pytest.fixture(scope="module")
def small() -> CoarseSegmenter:
    torch.manual_seed(0)
    network = CoarseSegmenter(CONFIG).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    return network


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("start, stop", [(0, 3), (3, 7), (7, 12)])
def test_logits_of_blocks_are_interpolated_to_where_voxels_lie(shift: int, start: int, stop: int) -> None:
    """Logits that rise linearly with the voxels' coordinates, averaged over blocks, come back as they were."""
    x = identity_coordinates((26, 18, 14), torch.device("cpu"))
    linear = x[:, :1] - 2 * x[:, 1:2] + 0.5 * x[:, 2:]
    blocks = F.avg_pool3d(linear[:, :, shift : 24 + shift, shift : 16 + shift, shift : 12 + shift], 2)
    fine = coarse_segmenter._interpolated(blocks, start, stop, shift)
    assert fine.shape == (1, 1, 2 * (stop - start), 16, 12)
    # One voxel at the ends has no block on its other side; with a shift there are two.
    low, high = max(2 * start, 1 + shift), min(2 * stop, 23)
    inside = (slice(None), slice(None), slice(low - 2 * start, high - 2 * start), slice(2, 15), slice(2, 11))
    torch.testing.assert_close(fine[inside], linear[:, :, low:high, 2:15, 2:11])


@torch.no_grad()
def test_classes_and_probabilities_are_those_of_the_interpolated_logits(small: CoarseSegmenter) -> None:
    image = torch.rand(1, 1, 24, 40, 16)
    blocks = small._coarse_logits(image)
    logits = small.logits(small.features(F.avg_pool3d(image, 2)))[0].view(6, 10, 4, 8, 5)
    assert torch.equal(blocks[0, :, 3, 5, 2], logits[1, 2, 1, 0b110])  # its second, second and first half
    whole = F.interpolate(blocks, scale_factor=2, mode="trilinear")
    for passes, logits in ((False, whole), (True, (whole + _later(small, image)) / 2)):
        classes, probabilities = small(image, shifted_pass=passes)
        assert (classes == logits[0].argmax(0)).float().mean() > 0.9999 and classes.unique().numel() > 1
        torch.testing.assert_close(probabilities, F.avg_pool3d(logits.softmax(1), 2)[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def _later(network: CoarseSegmenter, image: Tensor) -> Tensor:
    """Logits of all voxels from blocks that begin one voxel later."""
    moved = torch.zeros_like(image)
    moved[..., :-1, :-1, :-1] = image[..., 1:, 1:, 1:]
    fine = F.interpolate(network._coarse_logits(moved), scale_factor=2, mode="trilinear")
    return F.pad(fine, (1, 0) * 3, mode="replicate")[..., :-1, :-1, :-1]


@torch.no_grad()
def test_a_brain_among_background_gives_the_same_wherever_slabs_end(
    small: CoarseSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(1, 1, 48, 32, 40)
    image[..., 13:31, 5:22, 8:29] = torch.rand(18, 17, 21)
    expected = small(image, shifted_pass=True)
    assert expected[0][:8].any() == 0 and (expected[1][0, :4] == 1).all()
    for slices in (1, 5, 100):
        monkeypatch.setattr(coarse_segmenter, "_SLAB", slices)
        for found, known in zip(small(image, shifted_pass=True), expected, strict=True):
            torch.testing.assert_close(found, known)
    empty, background = small(torch.zeros(1, 1, 16, 16, 16))
    assert not empty.any() and (background[0] == 1).all()


def test_a_file_says_that_its_network_is_coarse(small: CoarseSegmenter, tmp_path: Path) -> None:
    scheme = SCHEMES["tissue3"]
    config = replace(CONFIG, classes=scheme.number_of_classes)
    classes = [(structure.name, list(structure.ids)) for structure in scheme.classes]
    conform = asdict(ConformSpec((16, 16, 16), axis_codes=("R", "A", "S"), multiple_of=16))
    card = ModelCard("coarse", MIDSPACE, to_dict(config), conform, scheme.name, classes)
    save_model(tmp_path / "coarse.safetensors", Segmenter(config), card)  # trained on blocks as they are
    model = load_model(tmp_path / "coarse.safetensors")
    assert isinstance(model.network, CoarseSegmenter) and model.is_coarse
    assert not load_model("default").is_coarse
