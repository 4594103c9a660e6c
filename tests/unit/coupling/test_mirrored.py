"""What fills a mass, against images that are their own mirror images, tilted."""

from __future__ import annotations

import pytest
import torch

from mirror_images import SCHEME, SHAPE, ball, image, probabilities, tilted
from uresnet.coupling.mirrored import filling


@pytest.mark.parametrize(("angle", "shift"), [(0.0, 0.0), (0.12, 3.0), (-0.2, -2.0)])
def test_a_mass_is_filled_with_what_lies_opposite(angle: float, shift: float) -> None:
    matrix = tilted(angle, shift)
    healthy, mass = image(matrix), ball((20, 30, 24), 6)
    sick = healthy.clone()
    sick[0, 0][mass] = 1.0
    fill = filling(sick, mass, probabilities(matrix), SCHEME)
    assert fill is not None
    filled = fill.of(sick)
    assert not fill.unfilled.any()
    assert float((sick - healthy).abs()[0, 0][mass].mean()) > 0.3
    assert float((filled - healthy).abs()[0, 0][mass].max()) < 0.06
    far = ~ball((20, 30, 24), 12)
    torch.testing.assert_close(filled[0, 0][far], sick[0, 0][far], rtol=0, atol=0)


def test_the_same_place_fills_another_image_of_the_same_brain() -> None:
    matrix, mass = tilted(0.12, 3.0), ball((20, 30, 24), 6)
    healthy = image(matrix)
    fill = filling(healthy, mass, probabilities(matrix), SCHEME)
    assert fill is not None
    inverted = torch.where(healthy > 0, 1 - healthy, 0)
    sick = inverted.clone()
    sick[0, 0][mass] = 0.2
    assert float((fill.of(sick) - inverted).abs()[0, 0][mass].max()) < 0.06


def test_what_is_opposite_to_mass_or_to_no_brain_stays_as_it_is() -> None:
    matrix = tilted(0.0, 0.0)
    sick, both = image(matrix), ball((20, 30, 24), 6) | ball((43, 30, 24), 6)
    sick[0, 0][both] = 1.0
    fill = filling(sick, both, probabilities(matrix), SCHEME)
    assert fill is not None
    torch.testing.assert_close(fill.unfilled, both)
    torch.testing.assert_close(fill.of(sick), sick)

    sick = image(matrix)
    sick[:, :, 40:] = 0  # a part of the right half is cut off
    mass = ball((18, 30, 24), 6)
    fill = filling(sick, mass, probabilities(matrix), SCHEME)
    assert fill is not None
    cut = mass & (torch.arange(SHAPE[0]) < 63 - 39).view(-1, 1, 1)
    torch.testing.assert_close(fill.unfilled, cut)
    assert not (fill.of(sick)[0, 0][mass] == 0).any()


def test_nothing_fills_where_too_few_structures_tell_the_sides() -> None:
    few = probabilities(tilted(0.0, 0.0))
    few[6:] = 0
    assert filling(image(tilted(0.0, 0.0)), ball((20, 30, 24), 6), few, SCHEME) is None
