"""The predicted T1-weighted image with the detail of another contrast, on a brain of three tissues in layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool3d, interpolate, one_hot

from uresnet.core.labels import SCHEMES
from uresnet.coupling.predicted_t1 import with_detail

SCHEME = SCHEMES["freesurfer34"]
SHAPE = (32, 40, 32)
T1 = {"white": 0.88, "grey": 0.6, "fluid": 0.2}
T2 = {"white": 0.24, "grey": 0.32, "fluid": 0.82}
FLAIR = {"white": 0.6, "grey": 0.8, "fluid": 0.2}


def layers(brightness: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (1, 1, I, J, K) of fluid, cortex and white matter, in slabs along the first axis, with a voxel half of
    cortex and half of white matter between them, and the probabilities (C, I/2, J/2, K/2)."""
    classes = torch.zeros(SHAPE, dtype=torch.long)
    image = torch.zeros(SHAPE)
    for start, stop, structure, tissue in ((4, 12, 4, "fluid"), (12, 20, 3, "grey"), (20, 28, 2, "white")):
        classes[start:stop] = 1 + SCHEME.ids.index(structure)
        image[start:stop] = brightness[tissue]
    image[20] = (brightness["grey"] + brightness["white"]) / 2
    return image[None, None], one_hot(classes[::2, ::2, ::2], SCHEME.number_of_classes).movedim(-1, 0).float()


def blurred(image: torch.Tensor) -> torch.Tensor:
    """Means over 5×5×5 voxels of the brain."""
    inside = (image > 0).float()
    return avg_pool3d(image, 5, 1, 2) / avg_pool3d(inside, 5, 1, 2).clamp_min(1e-6) * inside


@pytest.mark.parametrize("tissues", [T1, T2, FLAIR])
def test_a_blurred_prediction_gets_the_detail_of_the_image(tissues: dict[str, float]) -> None:
    image, probabilities = layers(tissues)
    truth = layers(T1)[0]
    predicted = blurred(truth)
    found = with_detail(predicted, image, probabilities, SCHEME)
    inside = image > 0
    before, after = ((x - truth)[inside].abs().mean() for x in (predicted, found))
    assert float(after) < float(before)
    for border in (12, 20):
        step, blurred_step = (
            float(x[0, 0, border + 1, 20, 16] - x[0, 0, border - 1, 20, 16]) for x in (found, predicted)
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
