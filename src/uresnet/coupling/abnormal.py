"""Abnormal tissue: where it is, and how it enters the classes of a segmentation.

Masses, cavities and strokes, and the swelling round them, are found by the network in every contrast; where it is not
sure, together with brightness. Lesions of the white matter are found in FLAIR images, by brightness and by the network:
there a rule of one line does better than the network alone. Elsewhere they are what the network is sure of, if that is
1 ml or more. Nothing is matched to masses.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.core.image import LabelMap
from uresnet.core.labels import ABNORMAL, LESION, MASSES, SCHEMES, WITH_ABNORMAL, LabelScheme, looked_for, mirrored_id
from uresnet.coupling.contrast import Look
from uresnet.coupling.suspected import (
    EVERYWHERE,
    connected,
    flair_level,
    means_of_pieces,
    probable_pieces,
    suspected,
)
from uresnet.preprocess import Conformed

_LEFT, _RIGHT, _LESIONS = (1 + WITH_ABNORMAL.ids.index(i) for i in ABNORMAL)
_HEALTHY = _LEFT  # classes below it are those of healthy brains

_SMALLEST_MASS_ML = 0.2  # a piece
FEWEST_ML = 1.0
"""Of masses, in all, and of lesions where only the network finds them: less is found in healthy brains."""
_PROBABLE = 0.4
"""Of being a mass: what is connected to a mass with at least this probability is a part of it."""
_SURE = 0.6
"""The same, for what is no swelling: training makes the network take too much for a mass rather than too little."""
_SURE_SWELLING = 0.7
"""Of being abnormal: beside a mass the network takes too much for swelling. By its first choice, mass and swelling had
151 ml (T1) and 180 ml (FLAIR) in one patient, where 101 ml are bright in FLAIR. Lesions of patients without a mass
would be missed."""
_FEWEST_SUSPECTED_ML = 2.0  # a piece
_LEAST_OF_SUSPECTED = 0.04
"""Mean probability of being abnormal of a piece that is suspected: 0.06 and more in a glioma, 0.03 in healthy tissue of
a patient with a metastasis elsewhere."""
_TAKEN_FOR_LESIONS = 0.15
"""Mean probability of a lesion in a piece that is suspected, from which on it is no mass in T1 and T2 if that of a mass
is not half of it: 0.22 to 0.34 in many lesions of one patient, 0.03 to 0.06 in a glioma."""
_LARGEST_HOLE_ML = 3.0
"""What a mass encloses is a part of it up to this size; a ventricle that it surrounds is larger."""

_ABOVE_CORTEX = 1.2  # robust standard deviations, of lesions in FLAIR
_LEAST_OF_LESION = 0.02  # of the probability of abnormal tissue, where something is bright
_SMALLEST_LESION = 5  # voxels of 1 mm
_HULL_MM = 3
_DEEP = (2, 41, 10, 49, 11, 50, 12, 51, 13, 52, 77)  # white matter and deep grey matter, which lesions lie in


def abnormal_classes(image: Conformed, look: Look | None) -> Tensor | None:
    """(I, J, K) uint8: classes of ``WITH_ABNORMAL`` where tissue is abnormal, 0 elsewhere; None where all is healthy.

    What was drawn (``image.abnormal``) is taken as a mass, cavity or stroke; what the network saw is added.
    """
    shape = image.tensor.shape[2:]
    found = np.zeros(tuple(shape), dtype=np.uint8)
    if look is not None and look.evaluated is not None:
        values, classes, scheme = image.tensor[0, 0].numpy(), look.evaluated.classes.cpu().numpy(), look.scheme
        probability = _enlarged(look.evaluated.probabilities, ABNORMAL, scheme, classes.shape)
        taken_for_lesion = np.isin(classes, scheme.classes_of((LESION,)))
        mass = np.isin(classes, scheme.classes_of(MASSES))
        mass = _in_pieces(mass, _SMALLEST_MASS_ML * 1000, FEWEST_ML * 1000)
        if mass.any():
            taken_for_lesion &= probability > _SURE_SWELLING
        if LESION in looked_for(look.contrast):
            bright = _bright_lesions(values, classes, probability, scheme)
            found[taken_for_lesion | bright] = _LESIONS
        else:
            found[_in_pieces(taken_for_lesion, _SMALLEST_LESION, FEWEST_ML * 1000)] = _LESIONS
        mass = _grown(mass, look.evaluated.probabilities, scheme)
        doubtful = suspected(values, classes, probability, scheme, look.contrast, 1.0)
        doubtful = _in_pieces(doubtful, _FEWEST_SUSPECTED_ML * 1000, 0)
        alone = probable_pieces(_mostly(doubtful, mass), probability, _LEAST_OF_SUSPECTED)
        probably_mass = _enlarged(look.evaluated.probabilities, MASSES, scheme, classes.shape)
        if LESION not in looked_for(look.contrast):
            alone &= ~_rather_lesions(alone, probability - probably_mass, probably_mass)
        # Round a mass, T1-weighted images show more as dark as cortex than swells; the others show it bright.
        beside = doubtful & ~alone & (look.contrast != "T1")
        sure = _surest(mass, probably_mass)
        found[connected(taken_for_lesion | beside, mass | alone) | mass] = _LESIONS
        found[_without_holes(sure | alone)] = _LEFT
    if image.abnormal is not None:
        found[image.abnormal.numpy()] = _LEFT
    return torch.from_numpy(found) if found.any() else None


def is_mass(abnormal: Tensor) -> Tensor:
    """(I, J, K) bool: what nothing is matched to.

    Lesions of the white matter are matched as white matter: they are many and small, and on coarse lattices leaving out
    what is around each of them costs more than they mislead (FLAIR to T1 of two patients: 2.8 mm instead of 1.7).
    """
    return abnormal == _LEFT


def with_abnormal(labels: LabelMap, scheme: LabelScheme, abnormal: Tensor | None) -> tuple[LabelMap, LabelScheme]:
    """Classes (I, J, K) with abnormal tissue in them, of ``WITH_ABNORMAL``, and that scheme; where there is none, those
    of healthy brains. Masses get the side of the nearest structure that has one. A ``scheme`` of other structures
    stays as it is."""
    if scheme.classes[: _HEALTHY - 1] != WITH_ABNORMAL.classes[: _HEALTHY - 1]:
        return labels, scheme
    classes = _without_guesses(labels.data.numpy())
    if abnormal is None:
        return LabelMap(torch.from_numpy(classes), labels.grid), SCHEMES["freesurfer32"]
    found = abnormal.numpy().copy()
    masses = found == _LEFT
    if masses.any():
        found[masses & _right_of_midline(classes)] = _RIGHT
    return LabelMap(torch.from_numpy(np.where(found > 0, found, classes)), labels.grid), WITH_ABNORMAL


def _bright_lesions(image: np.ndarray, classes: np.ndarray, probability: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(I, J, K) bool: what is brighter than cortex and white matter, and not certainly healthy to the network, inside
    the closed hull of white and deep grey matter."""
    level = flair_level(image, classes, scheme, _ABOVE_CORTEX)
    if level is None:
        return np.zeros(image.shape, dtype=bool)
    inner = ndimage.binary_closing(
        np.isin(classes, scheme.classes_of(_DEEP)), ndimage.generate_binary_structure(3, 1), _HULL_MM
    )
    bright = (ndimage.gaussian_filter(image, 0.5) > level) & (probability > _LEAST_OF_LESION)
    return _in_pieces(bright & ndimage.binary_fill_holes(inner), _SMALLEST_LESION, 0)


def _in_pieces(found: np.ndarray, smallest: float, fewest: float) -> np.ndarray:
    """What lies in connected pieces of ``smallest`` voxels or more; nothing where these have fewer than ``fewest``."""
    pieces, _ = ndimage.label(found, EVERYWHERE)
    sizes = np.bincount(pieces.ravel())
    large = sizes >= smallest
    large[0] = False
    return np.asarray(large[pieces]) if sizes[large].sum() >= max(1, fewest) else np.zeros_like(found)


def _mostly(doubtful: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: what is ``doubtful``, in the connected pieces of which the ``mass`` is less than a third."""
    pieces, _ = ndimage.label(mass | doubtful, EVERYWHERE)
    sizes, certain = (np.bincount(pieces[inside], minlength=pieces.max() + 1) for inside in (pieces > 0, mass))
    return np.asarray((3 * certain < sizes)[pieces] & doubtful)


def _rather_lesions(doubtful: np.ndarray, lesion: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the connected pieces of what is ``doubtful`` that are lesions rather than a mass, by the mean
    probabilities (I, J, K) of both."""
    pieces, of_lesion, of_mass = means_of_pieces(doubtful, lesion, mass)
    return np.asarray(((of_lesion > _TAKEN_FOR_LESIONS) & (of_lesion > 2 * of_mass))[pieces])


def _surest(mass: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The ``mass`` without the edges that are less sure, which are its swelling, in the connected pieces of which a
    third or more is sure."""
    pieces, _ = ndimage.label(mass, EVERYWHERE)
    sure = mass & (probability > _SURE)
    sizes, surely = (np.bincount(pieces[inside], minlength=pieces.max() + 1) for inside in (mass, sure))
    return np.asarray(mass & (sure | (3 * surely < sizes)[pieces]))


def _grown(mass: np.ndarray, probabilities: Tensor, scheme: LabelScheme) -> np.ndarray:
    """The mass (I, J, K) with what is connected to it and probably of it too, by ``probabilities``
    (C, I/2, J/2, K/2)."""
    return connected(_enlarged(probabilities, MASSES, scheme, mass.shape) > _PROBABLE, mass)


def _enlarged(probabilities: Tensor, ids: tuple[int, ...], scheme: LabelScheme, shape: tuple[int, ...]) -> np.ndarray:
    """The probability of any of these ids, from (C, I/2, J/2, K/2) to the voxels of ``shape`` (I, J, K)."""
    summed = probabilities[scheme.classes_of(ids)].sum(dim=0)
    return F.interpolate(summed[None, None], size=shape, mode="nearest")[0, 0].cpu().numpy()


def _without_holes(mass: np.ndarray) -> np.ndarray:
    """The mass with what it encloses on all sides, where that is small."""
    if not mass.any():
        return mass
    (box,) = ndimage.find_objects(mass.astype(np.uint8))
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(mass[box]) & ~mass[box])
    small = np.bincount(pieces.ravel()) <= _LARGEST_HOLE_ML * 1000
    small[0] = False
    filled = mass.copy()
    filled[box] |= small[pieces]
    return filled


def _without_guesses(classes: np.ndarray) -> np.ndarray:
    """Healthy classes: what the network took for abnormal and is not kept becomes the nearest structure."""
    guessed = classes >= _HEALTHY
    if not guessed.any():
        return classes
    return _nearest(classes, ~guessed)


def _right_of_midline(classes: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the nearest structure that has a side is a right one."""
    side = np.zeros(_HEALTHY, dtype=np.uint8)
    for c, label in enumerate(WITH_ABNORMAL.classes[: _HEALTHY - 1], start=1):
        if mirrored_id(label.id) != label.id:
            side[c] = 2 if label.name.startswith("Right-") else 1
    sides = side[classes]
    return _nearest(sides, sides > 0) == 2 if sides.any() else np.zeros(classes.shape, dtype=bool)


def _nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where a value is not ``known``, that of the nearest voxel where it is."""
    if not known.any():
        return np.zeros_like(values)
    indices = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(indices)])
