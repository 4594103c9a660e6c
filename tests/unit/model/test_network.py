"""The network of the paper: how many weights, what shapes, and what it says before it has learned anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from uresnet.config import ModelConfig, load_config
from uresnet.errors import UserError
from uresnet.model.network import UResNet
from uresnet.transform import GridConvention, apply_voxel_affine, integrate_spatial_gradients

SHAPE = (8, 12, 16)


def pair(shape: tuple[int, ...] = SHAPE, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand((batch, 1, *shape), generator=generator) for _ in range(2))  # type: ignore[return-value]


def weights(config: ModelConfig) -> int:
    return sum(p.numel() for p in UResNet(config).parameters())


def test_the_joint_network_has_the_published_number_of_weights() -> None:
    assert weights(ModelConfig()) == 39_183


def test_the_registration_only_network_has_the_published_number_of_weights() -> None:
    assert weights(ModelConfig(segmentation=False)) == 24_631


def test_every_further_class_costs_one_filter_of_the_last_layer() -> None:
    # 3 × 3 × 3 weights for every channel that the decoder ends with, and a bias
    width = UResNet(ModelConfig()).deformable_decoder.channels_out
    assert weights(ModelConfig(scheme="freesurfer28")) - weights(ModelConfig()) == (29 - 4) * (width * 27 + 1)


def test_the_network_that_knows_abnormal_tissue_is_as_small() -> None:
    config = load_config("paper_abnormal").model
    assert weights(config) == 39_183 + 8 * 27 + 1 < 40_000
    assert UResNet(config)(*pair()).segmentation_logits.shape[1] == 5


@pytest.mark.parametrize("channels", [(2, 4), (4, 8, 16), (4, 8, 16, 32)], ids=str)
@pytest.mark.parametrize("scheme", ["tissue3", "freesurfer28"])
def test_depth_width_and_classes_are_configuration(channels: tuple[int, ...], scheme: str) -> None:
    network = UResNet(ModelConfig(channels=channels, scheme=scheme))
    shape = (8, 16, 24)
    output = network(*pair(shape, batch=2))
    assert network.multiple_of == 2 ** (len(channels) - 1)
    assert output.spatial_gradients.shape == (2, 3, *shape)
    assert output.affine.shape == (2, 3, 4)
    assert output.segmentation_logits is not None
    assert output.segmentation_logits.shape == (2, {"tissue3": 4, "freesurfer28": 29}[scheme], *shape)


def test_without_segmentation_there_are_no_logits_and_no_second_decoder() -> None:
    network = UResNet(ModelConfig(segmentation=False))
    assert network(*pair()).segmentation_logits is None
    assert not [name for name, _ in network.named_parameters() if "segmentation" in name]


def test_a_fresh_network_is_exactly_the_identity() -> None:
    output = UResNet(ModelConfig())(*pair())
    assert (output.spatial_gradients == 1).all()
    assert (output.affine == torch.eye(3, 4)).all()


def test_zero_output_is_exactly_the_identity_map() -> None:
    output = UResNet(ModelConfig())(*pair())
    convention = GridConvention.IDENTITY_AT_ONE
    where = apply_voxel_affine(
        output.affine, integrate_spatial_gradients(output.spatial_gradients, convention), convention
    )
    i, j, k = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    assert (where[0] == torch.stack([i, j, k])).all()


def test_the_first_steps_reach_every_weight() -> None:
    """Zero heads start at the identity, and must not stop the gradient for ever."""
    network = UResNet(ModelConfig())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    moving, fixed = pair((16, 16, 16))
    generator = torch.Generator().manual_seed(1)
    target = torch.rand((1, 3, 16, 16, 16), generator=generator)
    for _ in range(2):
        optimiser.zero_grad()
        output = network(moving, fixed)
        assert output.segmentation_logits is not None
        loss = (output.spatial_gradients - target).square().mean() + (output.affine - 1).square().mean()
        (loss + output.segmentation_logits.softmax(1)[:, 1].mean()).backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_gradients_stay_in_zero_to_two_for_any_weights() -> None:
    network = UResNet(ModelConfig())
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 3, generator=torch.Generator().manual_seed(2))
    g = network(*pair()).spatial_gradients
    assert g.min() >= 0
    assert g.max() <= 2
    assert g.std() > 0.1


@pytest.mark.parametrize("part", ["affine", "deformable"])
def test_a_part_that_is_switched_off_stays_at_the_identity(part: str) -> None:
    network = UResNet(ModelConfig(affine=part != "affine", deformable=part != "deformable"))
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    output = network(*pair(batch=2))
    assert bool((output.affine == torch.eye(3, 4)).all()) == (part == "affine")
    assert bool((output.spatial_gradients == 1).all()) == (part == "deformable")


def test_affine_numbers_are_scaled_as_configured() -> None:
    network = UResNet(ModelConfig(affine_linear_scale=0.25, affine_translation_scale=20.0))
    with torch.no_grad():
        network.affine_head.dense.bias.fill_(0.1)
    affine = network(*pair()).affine[0]
    torch.testing.assert_close(affine[:, :3], torch.eye(3) + 0.025)
    torch.testing.assert_close(affine[:, 3], torch.full((3,), 2.0))


@pytest.mark.parametrize("shape", [(9, 12, 16), (8, 10, 16), (8, 12, 15)], ids=str)
def test_sizes_that_do_not_halve_twice_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        UResNet(ModelConfig())(*pair(shape))


def test_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        UResNet(ModelConfig())(pair()[0], pair((8, 12, 20))[1])


@pytest.mark.parametrize("shape", [(20, 12, 24), (28, 36, 16)], ids=str)
def test_any_grid_of_the_right_multiple_works(shape: tuple[int, ...]) -> None:
    """The network is fully convolutional: a grid may grow to hold a large brain."""
    assert UResNet(ModelConfig())(*pair(shape)).spatial_gradients.shape == (1, 3, *shape)


def test_half_precision_keeps_gradients_and_affine_in_float32() -> None:
    network = UResNet(ModelConfig())
    with torch.autocast("cpu", torch.bfloat16):
        output = network(*pair())
    assert output.spatial_gradients.dtype == torch.float32
    assert output.affine.dtype == torch.float32


def test_one_forward_pass_by_hand() -> None:
    """Input block and first down block on a constant image, away from the border, against arithmetic."""
    network = UResNet(ModelConfig(channels=(2, 2)))
    level: Any = network.encoder.levels[0]
    with torch.no_grad():
        for p in network.encoder.parameters():
            p.zero_()
        network.encoder.input.convolution.weight[:, 0, 1, 1, 1] = torch.tensor([3.0, -2.0])  # centre tap on moving
        level.down.weight[0, 0] = 0.25  # sums 8 voxels of channel 0
        level.down.bias[0] = -10.0
        level.convolution.weight[1, 0, 1, 1, 1] = 2.0
    moving, fixed = torch.full((1, 1, 8, 8, 8), 0.5), torch.full((1, 1, 8, 8, 8), 0.25)
    fine, coarse = network.encoder(torch.cat([moving, fixed], 1))
    # 3·0.5 + moving; leaky(-2·0.5) + fixed
    torch.testing.assert_close(fine[0, :, 4, 4, 4], torch.tensor([1.5 + 0.5, -0.3 + 0.25]))
    # leaky(8·0.25·2 - 10) = -1.8 → leaky(2·-1.8)
    torch.testing.assert_close(coarse[0, :, 2, 2, 2], torch.tensor([0.0, 0.3 * -3.6]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": (4,)}, "needs 2 to 8 levels"),
        ({"channels": (4, 7)}, "even"),
        ({"affine": False, "deformable": False}, "cannot both"),
        ({"scheme": "all"}, "Unknown label scheme"),
    ],
)
def test_impossible_networks_are_refused(change: dict, sentence: str) -> None:
    from uresnet.config import model_config_from_dict

    with pytest.raises(UserError, match=sentence):
        model_config_from_dict(change)
