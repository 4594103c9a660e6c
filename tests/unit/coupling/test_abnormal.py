"""Abnormal tissue, on a made-up head of classes: what is found, and which side it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uresnet.core.choices import Contrast
from uresnet.core.grid import Grid
from uresnet.core.image import LabelMap
from uresnet.core.labels import SCHEMES, WITH_ABNORMAL
from uresnet.coupling.abnormal import abnormal_classes, with_abnormal
from uresnet.coupling.contrast import Evaluated, Look
from uresnet.preprocess import Conformed

SCHEME = SCHEMES["freesurfer34"]
SHAPE = (40, 40, 40)
GRID = Grid.centred(SHAPE, (1, 1, 1), "RAS", (0, 0, 0))
MASS, LESION = 1 + SCHEME.ids.index(25), 1 + SCHEME.ids.index(77)


def class_of(structure: int) -> int:
    return 1 + SCHEME.ids.index(structure)


def head() -> np.ndarray:
    """White matter in a shell of cortex; the left is at low indices."""
    classes = np.zeros(SHAPE, dtype=np.uint8)
    for low, inner, outer in ((0, 2, 3), (20, 41, 42)):
        classes[low + 1 : low + 19, 2:38, 2:38] = class_of(outer)
        classes[low + 3 : low + 19, 5:35, 5:35] = class_of(inner)
    return classes


def conformed(image: np.ndarray | None = None) -> Conformed:
    values = torch.rand(SHAPE) if image is None else torch.from_numpy(image.astype(np.float32))
    return Conformed(values[None, None], GRID, torch.ones(SHAPE, dtype=torch.bool))


def seen(
    classes: np.ndarray,
    contrast: Contrast = "T1",
    probable_mass: np.ndarray | None = None,
    probable_lesion: float = 0.0,
) -> Look:
    found = torch.from_numpy(classes)
    probabilities = torch.zeros((SCHEME.number_of_classes, *(n // 2 for n in SHAPE)))
    probabilities[LESION] = probable_lesion
    if probable_mass is not None:
        probabilities[MASS] = torch.from_numpy(probable_mass)
    return Look(contrast, SCHEME, Evaluated(found, probabilities, torch.zeros((1, 1, *SHAPE))))


def ids_of(abnormal: torch.Tensor, classes: np.ndarray) -> np.ndarray:
    labels, scheme = with_abnormal(LabelMap(torch.from_numpy(classes), GRID), SCHEME, abnormal)
    assert scheme is WITH_ABNORMAL
    return scheme.to_ids(labels.data.numpy())


@pytest.mark.parametrize(("start", "value"), [(5, 25), (24, 57)])
def test_a_mass_has_the_side_that_it_lies_in(start: int, value: int) -> None:
    healthy, classes = head(), head()
    classes[start : start + 11, 12:23, 12:23] = MASS  # 1.3 ml
    abnormal = abnormal_classes(conformed(), seen(classes))
    assert abnormal is not None
    ids = ids_of(abnormal, classes)
    assert (ids[classes == MASS] == value).all()
    np.testing.assert_array_equal(ids[classes != MASS], SCHEME.to_ids(healthy)[classes != MASS])


def test_a_mass_reaches_as_far_as_it_is_probable_and_no_other_place_becomes_one() -> None:
    classes = head()
    classes[5:16, 12:23, 12:23] = MASS
    probable = np.zeros([n // 2 for n in SHAPE], dtype=np.float32)
    probable[2:8, 5:14, 6:12] = 0.41  # from the voxels 4, 10, 12 on to 16, 28, 24
    probable[12:18, 6:12, 6:12] = 0.7  # on the other side, not connected
    probable[8:12, 6:12, 6:12] = 0.39
    abnormal = abnormal_classes(conformed(), seen(classes, probable_mass=probable))
    assert abnormal is not None
    expected = np.zeros(SHAPE, dtype=bool)
    expected[4:16, 10:28, 12:24] = True
    np.testing.assert_array_equal(abnormal.numpy() > 0, expected)
    # Where the first choice shows no mass, nothing that is merely probable becomes one.
    assert abnormal_classes(conformed(), seen(head(), probable_mass=probable)) is None


@pytest.mark.parametrize(("until", "expected"), [(18, 77), (14, 25)])
def test_the_edges_of_a_mass_that_are_less_sure_are_its_swelling(until: int, expected: int) -> None:
    """Where a third of it or more is sure; else all of it is a mass."""
    classes = head()
    classes[4:16, 12:24, 12:24] = MASS
    probable = np.zeros([n // 2 for n in SHAPE], dtype=np.float32)
    probable[2:8, 6:12, 6:12] = 0.55
    probable[2:8, 6:12, 6 : until // 2] = 0.65
    abnormal = abnormal_classes(conformed(), seen(classes, probable_mass=probable))
    assert abnormal is not None
    ids = ids_of(abnormal, classes)
    mass = classes == MASS
    assert mass[:, :, : until // 2 * 2].any()
    np.testing.assert_array_equal(ids[4:16, 12:24, 12 : until // 2 * 2], 25)
    np.testing.assert_array_equal(ids[4:16, 12:24, until // 2 * 2 : 24], expected)
    assert not np.isin(ids[~mass], (25, 57, 77)).any()


def test_less_than_a_millilitre_is_no_mass_and_becomes_what_is_around() -> None:
    healthy, classes = head(), head()
    classes[5:14, 12:21, 12:21] = MASS  # 0.7 ml
    assert abnormal_classes(conformed(), seen(classes)) is None
    labels, scheme = with_abnormal(LabelMap(torch.from_numpy(classes), GRID), SCHEME, None)
    assert scheme.name == "freesurfer32"
    np.testing.assert_array_equal(labels.data.numpy(), healthy)


@pytest.mark.parametrize(("side", "open_to", "filled"), [(6, 0, True), (14, 0, True), (15, 0, False), (6, 1, False)])
def test_what_a_mass_encloses_is_a_part_of_it_but_no_ventricle(side: int, open_to: int, filled: bool) -> None:
    classes = head()
    classes[8:32, 8:32, 8:32] = MASS
    low = 20 - side // 2
    hole = tuple(slice(low, low + side) for _ in range(3))  # 0.2, 2.7 or 3.4 ml
    classes[hole] = class_of(4)
    if open_to:
        classes[20, 20, low:] = class_of(4)  # a canal of one voxel
    abnormal = abnormal_classes(conformed(), seen(classes))
    assert abnormal is not None
    assert bool((abnormal[hole] > 0).all()) == filled and bool((abnormal[hole] > 0).any()) == filled
    outside = torch.from_numpy(classes != MASS)
    outside[hole] = False
    assert not bool((abnormal[outside] > 0).any())


@pytest.mark.parametrize("contrast", ["T1", "T2"])
def test_the_swelling_round_a_mass_is_found_in_every_contrast_and_no_other_lesion(contrast: Contrast) -> None:
    classes = head()
    classes[5:16, 12:23, 12:23] = MASS
    classes[5:16, 23:28, 12:20] = LESION  # at the mass
    classes[5:16, 30:34, 12:20] = LESION  # two voxels away
    look = seen(classes, contrast, probable_lesion=0.9)
    assert look.evaluated is not None
    look.evaluated.probabilities[LESION, :, :, 8:] = 0.6  # not sure enough beside a mass
    abnormal = abnormal_classes(conformed(), look)
    assert abnormal is not None
    expected = np.zeros(SHAPE, dtype=bool)
    expected[5:16, 23:28, 12:16] = True
    ids = ids_of(abnormal, classes)
    np.testing.assert_array_equal(ids == 77, expected)
    np.testing.assert_array_equal(ids == 25, classes == MASS)


@pytest.mark.parametrize(
    ("contrast", "beside", "expected"), [("T1", False, 25), ("T2", False, 25), ("T2", True, 77), ("T1", True, 2)]
)
def test_a_mass_that_is_merely_suspected_is_one_and_beside_a_mass_swelling(
    contrast: Contrast, beside: bool, expected: int
) -> None:
    """Not so in a T1-weighted image, where cortex beside a mass is as dark."""
    white, grey, fluid, suspicious = {"T1": (0.9, 0.6, 0.1, 0.5), "T2": (0.3, 0.4, 0.9, 0.6)}[contrast]
    classes = head()
    classes[4:17, 5:18, 6:24] = MASS if beside else class_of(2)
    is_white = np.isin(classes, [class_of(2), class_of(41), MASS])
    image = np.where(classes > 0, np.where(is_white, white, grey), 0.0)
    image[4:18, 18:33, 8:24] = suspicious  # 3.4 ml
    classes[30:34, 20:30, 20:30], image[30:34, 20:30, 20:30] = class_of(43), fluid
    probable = np.zeros([n // 2 for n in SHAPE], dtype=np.float32)
    probable[1:10, 8:18, 3:13] = 0.05
    abnormal = abnormal_classes(conformed(image), seen(classes, contrast, probable))
    assert abnormal is not None or not beside
    ids = SCHEME.to_ids(classes) if abnormal is None else ids_of(abnormal, classes)
    assert (ids[7:15, 20:30, 10:21] == expected).all()
    assert ((ids[4:17, 6:17, 8:20] == 25) == beside).all()
    assert not np.isin(ids[19:], (25, 57, 77)).any()


@pytest.mark.parametrize(("probability", "is_mass"), [(0.05, True), (0.035, False)])
def test_what_is_hardly_suspected_is_no_mass(probability: float, is_mass: bool) -> None:
    classes, image = head(), np.where(head() > 0, 0.9, 0.0)
    image[np.isin(classes, [class_of(3), class_of(42)])] = 0.6
    image[4:18, 18:33, 8:24] = 0.5
    classes[30:34, 20:30, 20:30], image[30:34, 20:30, 20:30] = class_of(43), 0.1
    probable = np.full([n // 2 for n in SHAPE], probability, dtype=np.float32)
    assert (abnormal_classes(conformed(image), seen(classes, "T1", probable)) is not None) == is_mass


@pytest.mark.parametrize(("side", "expected"), [(6, 25), (12, 2)])
def test_a_little_that_is_certain_does_not_make_the_suspected_rest_of_a_mass_healthy(side: int, expected: int) -> None:
    """Cubes of 12 mm side by side, the first in part or as a whole certain: where less than a third of both is."""
    classes, image = head(), np.where(head() > 0, 0.9, 0.0)
    image[np.isin(classes, [class_of(3), class_of(42)])] = 0.6
    image[4:17, 6:32, 10:24] = 0.5
    classes[4:17, 18 - side : 18, 10:24] = MASS
    classes[30:34, 20:30, 20:30], image[30:34, 20:30, 20:30] = class_of(43), 0.1
    probable = np.zeros([n // 2 for n in SHAPE], dtype=np.float32)
    probable[1:10, 2:17, 4:13] = 0.05
    abnormal = abnormal_classes(conformed(image), seen(classes, "T1", probable))
    assert abnormal is not None
    ids = ids_of(abnormal, classes)
    assert (ids[6:15, 20:30, 12:22] == expected).all()
    assert (ids[classes == MASS] == 25).all()


@pytest.mark.parametrize(
    ("contrast", "lesion", "mass", "is_mass"),
    [("T1", 0.3, 0.1, False), ("T2", 0.3, 0.1, False), ("T2", 0.3, 0.2, True), ("T2", 0.1, 0.01, True)],
)
def test_what_the_network_takes_for_lesions_is_no_suspected_mass(
    contrast: Contrast, lesion: float, mass: float, is_mass: bool
) -> None:
    """Lesions of the white matter may be thick where they have grown together; only what it is sure of is a lesion."""
    white, grey, fluid, seen_there = {"T1": (0.9, 0.6, 0.1, 0.5), "T2": (0.3, 0.4, 0.9, 0.6)}[contrast]
    classes = head()
    image = np.where(classes > 0, np.where(np.isin(classes, [class_of(2), class_of(41)]), white, grey), 0.0)
    image[4:18, 8:32, 8:24] = seen_there
    classes[30:34, 20:30, 20:30], image[30:34, 20:30, 20:30] = class_of(43), fluid
    classes[6:16, 12:24, 10:20] = LESION  # 1.2 ml
    probable = np.zeros([n // 2 for n in SHAPE], dtype=np.float32)
    probable[1:10, 3:17, 3:13] = 1
    look = seen(classes, contrast, mass * probable)
    assert look.evaluated is not None
    look.evaluated.probabilities[LESION] = torch.from_numpy(lesion * probable)
    abnormal = abnormal_classes(conformed(image), look)
    assert abnormal is not None
    ids = ids_of(abnormal, classes)
    assert bool((ids == 25).any()) == is_mass
    if not is_mass:
        np.testing.assert_array_equal(ids == 77, classes == LESION)


def flair(classes: np.ndarray) -> np.ndarray:
    noise = 0.02 * np.random.default_rng(0).normal(size=SHAPE)
    white = np.isin(classes, [class_of(2), class_of(41)])
    return np.where(classes > 0, np.where(white, 0.5, 0.6) + noise, 0)


@pytest.mark.parametrize("contrast", ["FLAIR", "T2", "T1"])
def test_bright_spots_of_white_matter_are_lesions_in_flair_alone(contrast: Contrast) -> None:
    classes = head()
    image = flair(classes)
    image[8:12, 15:19, 15:19] = 0.9
    image[30, 30, 30] = 0.9  # a single voxel is noise
    classes[25:28, 15:19, 15:19] = LESION  # by the network
    abnormal = abnormal_classes(conformed(image), seen(classes, contrast, probable_lesion=0.022))
    if contrast != "FLAIR":
        assert abnormal is None  # less than 1 ml by the network
        return
    assert abnormal is not None
    found = ids_of(abnormal, classes) == 77
    assert found[8:12, 15:19, 15:19].all() and found[25:28, 15:19, 15:19].all()
    assert found[:24].sum() < 1.6 * 64  # the blur before the threshold
    assert not found[28:].any()
    certain = abnormal_classes(conformed(image), seen(classes, contrast, probable_lesion=0.018))
    assert certain is not None and ((ids_of(certain, classes) == 77) == (classes == LESION)).all()


def test_white_matter_that_is_brighter_than_cortex_is_no_lesion() -> None:
    """As in FLAIR images of thick slices: its bright half is not abnormal, what is far brighter is."""
    classes = head()
    white = np.isin(classes, [class_of(2), class_of(41)])
    noise = 0.03 * np.random.default_rng(0).normal(size=SHAPE)
    image = np.where(classes > 0, np.where(white, 0.6, 0.5) + noise, 0)
    image[8:12, 15:19, 15:19] = 0.9
    abnormal = abnormal_classes(conformed(image), seen(classes, "FLAIR", probable_lesion=0.022))
    assert abnormal is not None
    found = ids_of(abnormal, classes) == 77
    assert found[8:12, 15:19, 15:19].all()
    assert found.sum() < 1.6 * 64


def test_what_is_drawn_counts_whatever_the_network_sees() -> None:
    classes = head()
    drawn = torch.zeros(SHAPE, dtype=torch.bool)
    drawn[26:30, 20:24, 20:24] = True
    for look in (None, seen(classes)):
        abnormal = abnormal_classes(replace(conformed(), abnormal=drawn), look)
        assert abnormal is not None
        assert ((ids_of(abnormal, classes) == 57) == drawn.numpy()).all()


def test_a_healthy_brain_has_none() -> None:
    assert abnormal_classes(conformed(flair(head())), seen(head(), "FLAIR")) is None
    assert abnormal_classes(conformed(), None) is None


def test_structures_of_another_scheme_stay_as_they_are() -> None:
    labels = LabelMap(torch.zeros(SHAPE, dtype=torch.uint8), GRID)
    assert with_abnormal(labels, SCHEMES["tissue3"], torch.ones(SHAPE)) == (labels, SCHEMES["tissue3"])
