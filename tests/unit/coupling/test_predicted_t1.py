"""The predicted T1-weighted image with the detail of another contrast, on a brain of three tissues in layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool3d, interpolate, one_hot

from layered_brain import FLAIR, SCHEME, SHAPE, T1, T2, layers
from uresnet.coupling.predicted_t1 import with_detail


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
