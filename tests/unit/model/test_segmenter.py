"""The default model's network: blocks of voxels, crops, sizes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from uresnet.config import SegmenterConfig
from uresnet.model.catalogue import packaged_models
from uresnet.model.checkpoint import load_model
from uresnet.model.segmenter import Convolution, Segmenter, blocks_to_channels, channels_to_blocks, joined


@pytest.fixture(scope="module")
def small() -> Segmenter:
    return random_network((6, 8))


@torch.no_grad()
def random_network(channels: tuple[int, ...], classes: int = 5, seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    config = SegmenterConfig(channels=channels, blocks=(1,) * len(channels), hidden=10, classes=classes)
    network = Segmenter(config).eval()
    for weights in network.parameters():
        weights.add_(0.05 * torch.randn_like(weights))
    return network


def test_blocks_are_the_voxels_in_order() -> None:
    x = torch.arange(4 * 6 * 2).float().view(1, 1, 4, 6, 2)
    blocks = blocks_to_channels(x)
    assert blocks.shape == (1, 8, 2, 3, 1)
    assert blocks[0, :, 1, 2, 0].tolist() == [x[0, 0, 2 + a, 4 + b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    assert torch.equal(channels_to_blocks(blocks), x)


@torch.no_grad()
def test_classes_and_probabilities_are_those_of_the_logits(small: Segmenter) -> None:
    image = torch.rand(1, 1, 16, 20, 12)
    classes, probabilities = small(image)
    logits = small.logits(small.features(image))[0]
    expected = channels_to_blocks(logits.argmax(-1).T.reshape(1, 8, 8, 10, 6))[0, 0]
    assert torch.equal(classes.long(), expected) and classes.unique().numel() > 1
    torch.testing.assert_close(probabilities.flatten(1).T, logits.softmax(-1).mean(1))
    torch.testing.assert_close(small.logits(small.features(image), [6, 1])[0], logits[:, [6, 1]])


@torch.no_grad()
def test_a_shifted_pass_over_other_blocks_is_averaged_voxel_by_voxel(small: Segmenter) -> None:
    image = torch.rand(1, 1, 16, 20, 12)

    def at_every_voxel(seen: torch.Tensor) -> torch.Tensor:
        logits = small.logits(small.features(seen))[0]
        return channels_to_blocks(logits.permute(2, 1, 0).reshape(1, -1, 8, 10, 6))[0]

    moved = torch.zeros_like(image)
    moved[..., 1:, 1:, 1:] = image[..., :-1, :-1, :-1]
    logits = at_every_voxel(image)
    logits[:, :-1, :-1, :-1] = (logits[:, :-1, :-1, :-1] + at_every_voxel(moved)[:, 1:, 1:, 1:]) / 2
    classes, probabilities = small(image, shifted_pass=True)
    assert torch.equal(classes.long(), logits.argmax(dim=0))
    torch.testing.assert_close(probabilities, F.avg_pool3d(logits.softmax(dim=0), 2), atol=2e-6, rtol=0)
    assert not torch.equal(classes, small(image)[0])


@torch.no_grad()
def test_a_second_look_is_at_the_mirror_image(small: Segmenter) -> None:
    """Where a network knows which classes are opposite: with the shifted pass, and in :meth:`Segmenter.with_t1`."""
    image, opposite = torch.rand(1, 1, 16, 20, 12), [0, 2, 1, 3, 4]

    def at_every_voxel(seen: torch.Tensor) -> torch.Tensor:
        logits = small.logits(small.features(seen))[0]
        return channels_to_blocks(logits.permute(2, 1, 0).reshape(1, -1, 8, 10, 6))[0]

    moved = torch.zeros_like(image)
    moved[..., 1:, 1:, 1:] = image.flip(2)[..., :-1, :-1, :-1]
    logits = at_every_voxel(image)
    logits[:, 1:, :-1, :-1] += at_every_voxel(moved)[opposite, 1:, 1:, 1:].flip(1)
    logits[:, 1:, :-1, :-1] /= 2
    both_sides = copy.deepcopy(small)
    both_sides.mirrored = (0, 2, 1, 3, 4)
    classes, probabilities = both_sides(image, shifted_pass=True)
    assert torch.equal(classes.long(), logits.argmax(dim=0))
    torch.testing.assert_close(probabilities, F.avg_pool3d(logits.softmax(dim=0), 2), atol=2e-6, rtol=0)
    assert torch.equal(both_sides(image)[0], small(image)[0])


@torch.no_grad()
def test_an_image_and_its_mirror_image_give_the_same_with_sides_exchanged() -> None:
    config = SegmenterConfig(channels=(6, 8), blocks=(1, 1), hidden=10, classes=5, synthesis=6)
    torch.manual_seed(2)
    network, image = Segmenter(config).eval(), torch.rand(1, 1, 16, 20, 12)
    alone = network.with_t1(image)
    network.mirrored = (0, 2, 1, 3, 4)
    classes, probabilities, t1 = network.with_t1(image)
    _, its_probabilities, its_t1 = network.with_t1(image.flip(2))
    torch.testing.assert_close(its_probabilities[[0, 2, 1, 3, 4]].flip(1), probabilities)
    torch.testing.assert_close(its_t1.flip(2), t1)
    assert not torch.allclose(alone[2], t1) and classes.shape == image.shape[2:]


def test_what_only_one_network_knows_keeps_its_probability() -> None:
    own = torch.tensor([[[0.3, 0.3, 0.4]]]).log()  # the third class is abnormal: the other knows two
    other = torch.tensor([[[0.75, 0.25]]]).log()
    # 0.6 are left for the two: 0.65 · (0.3, 0.3) + 0.35 · 0.6 · (0.75, 0.25)
    torch.testing.assert_close(joined(own, other, 0.35).exp(), torch.tensor([[[0.3525, 0.2475, 0.4]]]))


@torch.no_grad()
@pytest.mark.parametrize("shifted_pass", [False, True])
def test_two_networks_look_together(small: Segmenter, shifted_pass: bool) -> None:
    other = random_network((6, 8), classes=4, seed=1)
    image, shown = torch.rand(2, 1, 1, 16, 20, 12)
    classes, probabilities = small.together(other, image, shown, 0.35, shifted_pass)
    own, its = small(image, shifted_pass)[1], other(shown, shifted_pass)[1]
    torch.testing.assert_close(probabilities[4], own[4])
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones_like(own[0]))
    assert not torch.equal(classes, small(image, shifted_pass)[0])
    assert (probabilities[:4] - own[:4]).abs().max() < (its - own[:4]).abs().max()
    # What is black is background, whatever the other network is shown there.
    image[..., :6] = 0
    assert int(small.together(other, image, torch.ones_like(shown), 0.35)[0][..., :2].sum()) == 0


@torch.no_grad()
def test_black_surroundings_are_background_and_not_evaluated(small: Segmenter) -> None:
    image = torch.zeros(1, 1, 40, 32, 24)
    bright = (slice(9, 24), slice(6, 16), slice(11, 13))
    image[0, 0][bright] = torch.rand(15, 10, 2)
    classes, probabilities = small(image)
    box = (slice(8, 24), slice(4, 16), slice(10, 14))  # even, multiples of 4, about the bright voxels
    part = small(image[0, 0][box][None, None])
    assert torch.equal(classes[box], part[0])
    torch.testing.assert_close(probabilities[:, 4:12, 2:8, 5:7], part[1])
    classes[box] = 0
    assert not classes.any()
    assert probabilities[0, 12:].min() == 1 and probabilities[1:, 12:].max() == 0


@torch.no_grad()
def test_far_from_its_edges_a_crop_is_seen_as_the_whole(small: Segmenter) -> None:
    """Normalisation knows one voxel at a time, so only the receptive field counts."""
    image = torch.rand(1, 1, 96, 16, 16)
    whole, part = small.features(image), small.features(image[:, :, 16:80])
    torch.testing.assert_close(part[:, :, 15:17], whole[:, :, 23:25], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_only_the_finest_level_has_the_size_of_the_image() -> None:
    network, seen = random_network((6, 8, 8, 8)), list[torch.Tensor]()
    network.encoder[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    image = torch.rand(1, 1, 32, 36, 20)
    assert network.features(image).shape == (1, 10, 16, 18, 10)
    (coarse,) = seen
    assert coarse.shape == (1, 8, 8, 12, 8)  # 9 and 5 cannot be halved twice
    assert torch.equal(coarse[:, :, :, 9:, :5], coarse[:, :, :, 8:9, :5].expand(-1, -1, -1, 3, -1))
    assert torch.equal(coarse[..., 5:], coarse[..., 4:5].expand(-1, -1, -1, -1, 3))


def test_a_size_that_does_not_fit_is_refused(small: Segmenter) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        small.features(torch.zeros(1, 1, 18, 20, 12))


def test_only_the_packaged_model_for_any_contrast_looks_at_mirror_images() -> None:
    model = load_model("any")
    assert model.scheme is not None and model.network.mirrored == model.scheme.mirrored
    assert load_model("default").network.mirrored is None


def test_the_packaged_default_model_is_small() -> None:
    file = packaged_models()["default"]
    assert file.path.stat().st_size <= 8_000_000
    assert file.card is not None and file.card.kind == "midspace"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_small_volume_is_convolved_as_a_large_one(stride: int) -> None:
    """By oneDNN without gradients, by PyTorch's own loop with them: the same values."""
    torch.manual_seed(0)
    convolution = Convolution(6, 5, 3, stride=stride, padding=1)
    x = torch.rand(1, 6, 7, 8, 9)
    with torch.inference_mode():
        fast = convolution(x)
    torch.testing.assert_close(fast, convolution(x).detach(), atol=1e-5, rtol=0)
    exact = torch.nn.functional.conv3d(x.double(), convolution.weight.double(), convolution.bias.double(), stride, 1)
    torch.testing.assert_close(fast.double(), exact.detach(), atol=1e-5, rtol=0)
