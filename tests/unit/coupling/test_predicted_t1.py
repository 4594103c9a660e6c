"""The predicted T1-weighted image with the detail of another contrast, on a brain of three tissues in layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool3d, interpolate, one_hot

from layered_brain import FLAIR, SCHEME, SHAPE, T1, T2, layers
from uresnet.coupling.predicted_t1 import explained, stretched, with_detail


def blurred(image: torch.Tensor) -> torch.Tensor:
    """Means over 5×5×5 voxels of the brain."""
    inside = (image > 0).float()
    return avg_pool3d(image, 5, 1, 2) / avg_pool3d(inside, 5, 1, 2).clamp_min(1e-6) * inside


@pytest.mark.parametrize("tissues", [T1, T2, FLAIR])
def test_a_blurred_prediction_gets_the_detail_of_the_image(tissues: dict[str, float]) -> None:
    (image, classes), (truth, _) = layers(tissues), layers(T1)
    for x, brightness in ((image, tissues), (truth, T1)):
        x[0, 0, 20] = (brightness["grey"] + brightness["white"]) / 2  # half of each
    probabilities = one_hot(classes[::2, ::2, ::2], SCHEME.number_of_classes).movedim(-1, 0).float()
    predicted = blurred(truth)
    found = with_detail(predicted, image, probabilities, SCHEME)
    inside = image > 0
    before, after = ((x - truth)[inside].abs().mean() for x in (predicted, found))
    assert float(after) < float(before)
    for border in (12, 20):
        step, blurred_step = (
            float(x[0, 0, border + 1, 16, 16] - x[0, 0, border - 1, 16, 16]) for x in (found, predicted)
        )
        assert step > 1.2 * blurred_step
    assert float((found - truth)[0, 0, [7, 16, 25]].abs().max()) < 0.05
    assert float(found[~inside].abs().max()) == 0


def test_a_linear_relation_is_found_whatever_the_prediction_blurs() -> None:
    """Exactly opposite brightness, with noise of which the prediction shows nothing finer than its blocks."""
    generator = torch.Generator().manual_seed(0)
    texture = 0.3 + 0.4 * torch.rand((1, 1, *SHAPE), generator=generator)
    nothing = torch.zeros(SCHEME.number_of_classes, *(n // 2 for n in SHAPE))
    nothing[1 + SCHEME.ids.index(3)] = 1
    blocks = interpolate(avg_pool3d(1 - texture, 2), scale_factor=2.0, mode="nearest")
    found = with_detail(blocks, texture, nothing, SCHEME)
    assert float(torch.corrcoef(torch.stack([found.flatten(), 1 - texture.flatten()]))[0, 1]) > 0.995


def test_without_tissues_and_detail_the_prediction_stays() -> None:
    flat, nothing = torch.full((1, 1, *SHAPE), 0.5), torch.zeros(SCHEME.number_of_classes, *(n // 2 for n in SHAPE))
    predicted = torch.full_like(flat, 0.7)
    torch.testing.assert_close(with_detail(predicted, flat, nothing, SCHEME), predicted)
    assert float(with_detail(predicted, torch.zeros_like(flat), nothing, SCHEME).abs().max()) == 0


@pytest.mark.parametrize("share", [0.65, 0.85])
def test_brightness_replaces_a_prediction_that_it_explains(share: float) -> None:
    """The prediction is a curve of brightness and noise: of its variance, the curve has this share.
    Each of 64 knots is the mean of 56 blocks, which leaves 0.13 of the noise."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand((1, 1, *(n // 2 for n in SHAPE)), generator=generator)
    image = interpolate(0.2 + 0.6 * blocks, scale_factor=2.0, mode="nearest")
    truth = 0.3 + 0.3 * (1 - image) ** 2  # dark is bright
    noise = torch.randn(blocks.shape, generator=generator) * float(truth.var()) ** 0.5 * (1 / share - 1) ** 0.5
    predicted = truth + interpolate(noise, scale_factor=2.0, mode="nearest")
    nothing = torch.zeros(SCHEME.number_of_classes, *blocks.shape[2:])
    image[0, 0, :4] = predicted[0, 0, :4] = 0
    found = explained(predicted, image, nothing, SCHEME)
    if share < 0.75:
        assert torch.equal(found, with_detail(predicted, image, nothing, SCHEME))
        return
    inside = image > 0
    assert float((found - truth)[inside].abs().mean()) < 0.2 * float((predicted - truth)[inside].abs().mean())
    assert float(found[~inside].abs().max()) == 0


def test_too_little_brain_for_a_curve_is_explained_by_windows() -> None:
    image, nothing = torch.zeros(1, 1, *SHAPE), torch.zeros(SCHEME.number_of_classes, *(n // 2 for n in SHAPE))
    image[0, 0, 8:14, 8:14, 8:14] = torch.rand(6, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.equal(explained(1 - image, image, nothing, SCHEME), with_detail(1 - image, image, nothing, SCHEME))


def test_tissues_are_stretched_to_their_usual_brightness() -> None:
    levels = torch.tensor([0.0, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.0])[None, None, None, None]
    wanted = torch.tensor([0.0, 0.17, 0.345, 0.52, 0.695, 0.87, 0.935, 1.0])[None, None, None, None]
    torch.testing.assert_close(stretched(levels, {"fluid": 0.3, "grey": 0.5, "white": 0.8}), wanted)
    assert stretched(levels, {"fluid": 0.6, "grey": 0.5, "white": 0.8}) is levels
    assert stretched(levels, {}) is levels
