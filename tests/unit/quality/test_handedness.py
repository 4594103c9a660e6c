"""Which side is which: mirrored brains are told from others, whatever the scanner and however the file is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from report_results import FIXED, head
from uresnet.core.image import Image, LabelMap
from uresnet.io import read_image
from uresnet.quality.handedness import Usual, handedness

VAL = ("1101", "1107", "1113", "1119", "1125")


def likeness(image: Image) -> float:
    found = handedness(image, LabelMap((image.data > 0).byte(), image.grid))
    assert found is not None
    return found


def mirrored(image: Image) -> Image:
    """Left and right exchanged: the values, not the grid."""
    axis = next(n for n, code in enumerate(image.grid.axis_codes) if code in "LR")
    return replace(image, data=image.data.flip(axis))


@pytest.mark.parametrize("name", VAL)
def test_a_brain_is_usual_and_its_mirror_image_is_not(shared_data: Path, name: str) -> None:
    image = read_image(shared_data / f"oasis_malf/{name}_T1.nii.gz")
    found = likeness(image)
    assert found > 0.1
    assert likeness(mirrored(image)) == pytest.approx(-found, abs=0.05)


def test_a_side_that_a_coil_brightens_does_not_turn_the_sign(shared_data: Path) -> None:
    """A ramp of ± 15 % from left to right, either way."""
    image = read_image(shared_data / "oasis_malf/1113_T1.nii.gz")
    axis = next(n for n, code in enumerate(image.grid.axis_codes) if code in "LR")
    ramp = torch.linspace(-0.15, 0.15, image.grid.shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)])
    plain = likeness(image)
    for sign in (1, -1):
        assert likeness(replace(image, data=image.data * (1 + sign * ramp))) == pytest.approx(plain, abs=0.15)


def test_a_brain_that_is_the_same_on_both_sides_has_none(shared_data: Path) -> None:
    image = read_image(shared_data / "oasis_malf/1113_T1.nii.gz")
    even = replace(image, data=image.data + mirrored(image).data)
    assert handedness(even, LabelMap((even.data > 0).byte(), even.grid)) is None


def test_an_empty_brain_has_none() -> None:
    image, brain, _ = head(FIXED)
    assert handedness(image, replace(brain, data=torch.zeros_like(brain.data))) is None


def test_likeness_is_one_for_the_mean_and_differences_where_people_vary_count_less() -> None:
    rng = np.random.default_rng(0)
    mean, spread = np.ones((6, 6, 6)), np.where(np.arange(6) < 3, 0.05, 0.8)[:, None, None]
    usual = Usual.of([mean + spread * rng.standard_normal(mean.shape) for _ in range(40)])
    assert usual.likeness(usual.mean) == pytest.approx(1)
    assert usual.likeness(-usual.mean) == pytest.approx(-1)
    turned_where_alike, turned_where_not = mean.copy(), mean.copy()
    turned_where_alike[0] = -1
    turned_where_not[5] = -1
    assert usual.likeness(turned_where_not) > usual.likeness(turned_where_alike) + 0.1
