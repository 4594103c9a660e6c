"""What the model for any contrast sees in an image: its contrast, and the T1-weighted image that would belong to it.

Local correlation of two images of different contrast does harm: where one becomes brighter the other may become darker.
So intensities are compared as T1-weighted ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.choices import Contrast
from uresnet.core.labels import ABNORMAL, MASSES, LabelScheme
from uresnet.coupling.predicted_t1 import explained, stretched
from uresnet.coupling.suspected import FLUID, GREY, WHITE, probable_pieces, suspected
from uresnet.model.checkpoint import Model
from uresnet.preprocess import Conformed

_T1_STEP = 0.32
"""White matter is brighter than cortex by this share, or more, of the step from fluid to cortex in T1-weighted images:
0.33 and more in ten of them, also after contrast agent; up to 0.16 in FLAIR images, up to 0.31 where one of thick
slices is blurred."""

_THICK = 0.62
"""Of the mean squared difference of neighbours along the other two axes (their geometric mean), that along the third,
where slices are thick: 0.67 and more in slices of up to 3 mm, 0.54 and less in slices of 4 and 5 mm."""
_THICK_MM = 3.5  # of voxels, which tells where slices run obliquely or are not interpolated

_FLAT = 0.03  # a step in brightness that is none
_CLEAR = 0.2  # a step in brightness that tells by itself
_FEWEST = 25  # blocks of 2×2×2 voxels of a tissue whose median is believed
_FEWEST_OF_MASS = 62  # blocks, half a millilitre: the whole image is evaluated then
_SHARE_SUSPECTED = 0.6
"""Of a cube, in the blocks of a first look, which show less than the voxels: more of them are looked at whole."""
_LEAST_SUSPECTED = 0.035
"""Mean probability of a piece, lower than in the voxels: 0.05 and more of the glioma that is suspected there."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What the network says of an image: ``classes`` (I, J, K) uint8, ``probabilities`` (C, I/2, J/2, K/2), and
    ``as_t1`` (1, 1, I, J, K), the predicted T1-weighted image in [0, 1], or a T1-weighted image as it is."""

    classes: Tensor
    probabilities: Tensor
    as_t1: Tensor


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen in a conformed image: its ``contrast``, and all that the network says of it, in classes of
    ``scheme``; ``evaluated`` is None for a T1-weighted image in which a first look saw and suspected no mass.
    ``in_slices``: a T1-weighted image of thick slices, which a model made for thin ones should not see alone."""

    contrast: Contrast
    scheme: LabelScheme
    evaluated: Evaluated | None
    in_slices: bool = False


def predicts_t1(model: Model) -> bool:
    """Whether the model knows any contrast and predicts T1-weighted images."""
    return getattr(model.network, "synthesis", None) is not None


def look_at(model: Model, image: Conformed, whole: bool = False) -> Look:
    """Look at an image with a network with synthesis: at one of eight voxels first, then at all where the image is not
    T1-weighted, or a mass was seen or suspected, or the ``whole`` is wanted in any case."""
    scheme = model.scheme
    assert scheme is not None
    tensor = image.tensor.to(model.device)
    with torch.inference_mode():
        first, abnormal, features = model.network.first_look(tensor, scheme.classes_of(ABNORMAL))  # type: ignore[operator]
        contrast = _contrast(_medians(tensor[0, 0, ::2, ::2, ::2], first, scheme))
        in_slices = contrast == "T1" and (image.slice_mm > _THICK_MM or _in_slices(tensor))
        if not whole and contrast == "T1" and not _may_have_mass(tensor, first, abnormal, scheme):
            return Look(contrast, scheme, None, in_slices)
        classes, probabilities, predicted = model.network.with_t1(tensor, features)  # type: ignore[operator]
        as_t1 = tensor
        if whole or contrast != "T1":
            as_t1 = explained(predicted, tensor, probabilities, scheme)
        if contrast not in ("T1", "FLAIR"):  # in FLAIR images it does harm
            as_t1 = stretched(as_t1, _medians(as_t1[0, 0], classes, scheme))
    return Look(contrast, scheme, Evaluated(classes, probabilities, as_t1), in_slices)


def _in_slices(image: Tensor) -> bool:
    """Whether neighbours in the brain differ much less along one axis than along the other two."""
    inside = image[0, 0] > 0
    steps = []
    for axis in range(3):
        both = inside.narrow(axis, 1, inside.shape[axis] - 1) & inside.narrow(axis, 0, inside.shape[axis] - 1)
        steps.append(float((image[0, 0].diff(dim=axis).square() * both).sum()) / max(int(both.sum()), 1))
    least, middle, most = sorted(steps)
    return least < _THICK * math.sqrt(middle * most)


def _may_have_mass(image: Tensor, classes: Tensor, abnormal: Tensor, scheme: LabelScheme) -> bool:
    """Whether a first look at a T1-weighted image saw a mass, or suspects one."""
    if int(_is_one_of(classes, scheme, MASSES).sum()) >= _FEWEST_OF_MASS:
        return True
    blocks, seen, probability = (x.cpu().numpy() for x in (F.avg_pool3d(image, 2)[0, 0], classes, abnormal))
    found = suspected(blocks, seen, probability, scheme, "T1", 2.0, _SHARE_SUSPECTED)
    return bool(probable_pieces(found, probability, _LEAST_SUSPECTED).any())


def _medians(values: Tensor, classes: Tensor, scheme: LabelScheme) -> dict[str, float]:
    """Median brightness by tissue; empty where one of them was hardly found."""
    found = {}
    for tissue, ids in (("white", WHITE), ("grey", GREY), ("fluid", FLUID)):
        inside = values[_is_one_of(classes, scheme, ids)]
        if len(inside) < _FEWEST:
            return {}
        found[tissue] = float(inside.median())
    return found


def _contrast(tissues: dict[str, float]) -> Contrast:
    """From the order of the tissues' brightness."""
    if not tissues:
        return "unknown"
    white, grey, fluid = tissues["white"], tissues["grey"], tissues["fluid"]
    if fluid > max(white, grey) + _FLAT and grey > white:
        return "T2"
    if fluid > grey - _FLAT:
        # Thick slices show narrow ventricles as bright as cortex.
        return "T1" if fluid < grey + _FLAT and white - grey > _CLEAR else "unknown"
    return "T1" if white - grey > _T1_STEP * (grey - fluid) else "FLAIR"


def _is_one_of(classes: Tensor, scheme: LabelScheme, ids: tuple[int, ...]) -> Tensor:
    return torch.isin(classes, torch.tensor(scheme.classes_of(ids), dtype=classes.dtype, device=classes.device))
