"""Masses that the network merely suspects: thick tissue of the brightness of abnormal tissue."""

from __future__ import annotations

import numpy as np
import pytest

from uresnet.core.choices import Contrast
from uresnet.core.labels import SCHEMES
from uresnet.coupling.suspected import flair_level, probable_pieces, suspected

SCHEME = SCHEMES["freesurfer34"]
BRIGHTNESS = {"T1": (0.9, 0.5, 0.2, 0.45), "T2": (0.25, 0.4, 0.9, 0.5), "FLAIR": (0.5, 0.6, 0.1, 0.9)}
"""Of white matter, cortex, fluid and a mass."""


def class_of(structure: int) -> int:
    return 1 + SCHEME.ids.index(structure)


def head(contrast: str, side: int, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, classes, probability): white matter, cortex and fluid in slabs, and in the white matter a cube of
    ``side`` voxels with the brightness of a mass, which the network takes for white matter, with a little doubt."""
    white, grey, fluid, mass = BRIGHTNESS[contrast]
    classes = np.zeros((40, 40, 60), dtype=np.uint8)
    classes[2:38, 2:38, 2:40], classes[2:38, 2:38, 40:44], classes[2:38, 2:38, 44:58] = map(class_of, (2, 3, 4))
    image = np.select([classes == class_of(i) for i in (2, 3, 4)], [white, grey, fluid], 0.0)
    low = 20 - side // 2
    cube = (slice(low, low + side),) * 3
    image[cube] = mass
    image += noise * np.random.default_rng(0).normal(size=image.shape) * (classes > 0)
    probability = np.full(image.shape, 0.001)
    probability[low - 4 : low + side + 4, low - 4 : low + side + 4, low - 4 : low + side + 4] = 0.04
    return image.astype(np.float32), classes, probability.astype(np.float32)


@pytest.mark.parametrize("contrast", ["T1", "T2", "FLAIR"])
@pytest.mark.parametrize(("side", "found"), [(14, True), (11, True), (7, False), (4, False)])
def test_thick_tissue_is_found_and_thin_is_not(contrast: Contrast, side: int, found: bool) -> None:
    image, classes, probability = head(contrast, side)
    mass = suspected(image, classes, probability, SCHEME, contrast, 1.0)
    low = 20 - side // 2
    truth = np.zeros(mass.shape, dtype=bool)
    truth[low : low + side, low : low + side, low : low + side] = True
    assert mass.any() == found
    if found:
        assert not (mass & ~truth).any() and mass.sum() > (side - 2) ** 3 * 0.9  # but for its surface


@pytest.mark.parametrize("contrast", ["T1", "T2", "FLAIR"])
def test_neither_brightness_nor_suspicion_is_enough(contrast: Contrast) -> None:
    image, classes, probability = head(contrast, 14)
    assert not suspected(image, classes, probability * 0.2, SCHEME, contrast, 1.0).any()
    image, classes, _ = head(contrast, 0)
    assert not suspected(image, classes, probability, SCHEME, contrast, 1.0).any()
    assert not suspected(image, classes, np.full_like(probability, 0.04) * (classes == 1), SCHEME, contrast, 1.0).any()


def test_fluid_is_no_mass_and_an_unknown_contrast_says_nothing() -> None:
    image, classes, probability = head("T2", 0)
    assert not suspected(image, classes, np.full_like(probability, 0.5), SCHEME, "T2", 1.0)[:, :, 44:].any()
    image, classes, probability = head("T2", 14)
    assert not suspected(image, classes, probability, SCHEME, "unknown", 1.0).any()
    nothing = np.zeros_like(classes)
    for contrast in ("T1", "T2", "FLAIR"):
        assert not suspected(image, nothing, probability, SCHEME, contrast, 1.0).any()


@pytest.mark.parametrize("structure", [7, 8, 16])
def test_cerebellum_and_brain_stem_are_not_suspected(structure: int) -> None:
    image, classes, probability = head("T1", 14)
    classes[classes == class_of(2)] = class_of(structure)
    classes[2:4] = class_of(2)
    assert not suspected(image, classes, probability, SCHEME, "T1", 1.0).any()


def test_coarse_voxels_show_the_same() -> None:
    """Every third voxel of an image of 1 mm: a cube of 9 mm has three of them a side."""
    image, classes, probability = (x[1::3, 1::3, 1::3] for x in head("T1", 15))
    assert suspected(image, classes, probability, SCHEME, "T1", 3.0).any()
    image, classes, probability = (x[1::3, 1::3, 1::3] for x in head("T1", 5))
    assert not suspected(image, classes, probability, SCHEME, "T1", 3.0).any()


def test_the_level_of_flair_lies_above_cortex_and_white_matter() -> None:
    """The median and 1.4826 times the median distance from it, by hand: 0.6 + 1.5 · 1.4826 · 0.02 for cortex,
    0.5 + 2 · 1.4826 · 0.1 for white matter."""
    classes = np.repeat([class_of(3), class_of(2)], 3).astype(np.uint8)
    image = np.array([0.58, 0.6, 0.62, 0.4, 0.5, 0.6])
    assert flair_level(image, classes, SCHEME) == pytest.approx(0.5 + 2 * 1.4826 * 0.1)
    image[3:] = [0.49, 0.5, 0.51]
    assert flair_level(image, classes, SCHEME) == pytest.approx(0.6 + 1.5 * 1.4826 * 0.02)
    assert flair_level(image, np.full_like(classes, class_of(2)), SCHEME) is None


def test_pieces_are_kept_by_their_mean_probability() -> None:
    found, probability = np.zeros((12, 4, 4), dtype=bool), np.full((12, 4, 4), 0.9)
    found[1:3, 1, 1], probability[1:3, 1, 1] = True, (0.02, 0.06)  # 0.04 on average
    found[5:7, 1, 1], probability[5:7, 1, 1] = True, (0.02, 0.05)
    kept = probable_pieces(found, probability, 0.04)
    assert kept[1:3, 1, 1].all() and kept.sum() == 2
    assert not probable_pieces(np.zeros_like(found), probability, 0.04).any()
