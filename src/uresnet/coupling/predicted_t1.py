"""The T1-weighted image that would belong to an image of another contrast, with the detail of that image.

The network predicts it from all that it sees, but at half the resolution. What is known at full resolution explains the
prediction, and the explanation replaces it. Where brightness alone explains the whole of it, as in a T1-weighted image
whose dark and bright are exchanged, it is one curve. Otherwise brightness and tissue explain it round every place:
least squares in windows that overlap, after the guided filter of He, Sun and Tang (2013), with tissues beside
brightness as guides. docs/models/any.md has what was measured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.labels import LabelScheme
from uresnet.coupling.suspected import FLUID, WHITE

_ALL_WHITE = (*WHITE, 7, 46, 16, 28, 60, 77)
_ALL_FLUID = (*FLUID, 5, 44, 14, 15, 24)

_WINDOW = 16  # voxels, the side of a window; windows overlap by half
_RIDGE = (3e-4, 1e-2, 1e-2)
"""Variances of brightness and of the shares of white matter and fluid below which they explain little."""

_MOSTLY = 0.99  # of a block inside: its mean is that of what it shows
_KNOTS = 64  # of the curve from brightness to brightness, each the mean of as many blocks
_BY_BRIGHTNESS = 0.75
"""Of the variance of the prediction: explained by brightness alone, the image has what a T1-weighted one shows.
0.88 and more in such images, 0.67 and less in T2-weighted and FLAIR images."""

_USUAL = {"fluid": 0.17, "grey": 0.52, "white": 0.87}
"""Median brightness of tissues in T1-weighted images as the networks see them. That of cortex is 0.44, but 0.52 where
the image is as smooth as a predicted one."""


def explained(predicted: Tensor, image: Tensor, probabilities: Tensor, scheme: LabelScheme) -> Tensor:
    """(1, 1, I, J, K) in [0, 1], 0 where the ``image`` is: the ``predicted`` T1-weighted image, of the same shape, by
    the brightness of the image where this is enough, and else as :func:`with_detail`."""
    curve = _by_brightness(predicted, image)
    return with_detail(predicted, image, probabilities, scheme) if curve is None else curve


def stretched(t1: Tensor, tissues: dict[str, float]) -> Tensor:
    """The image in [0, 1] with the usual brightness of tissues in place of their medians here (``fluid``, ``grey`` and
    ``white``), and linearly between them; as it is where these are unknown or in another order."""
    order = [tissues.get(tissue, 0.0) for tissue in _USUAL]
    if not 0 < order[0] < order[1] < order[2] < 1:
        return t1
    have, wanted = (t1.new_tensor([0.0, *levels, 1.0]) for levels in (order, _USUAL.values()))
    return _interpolated(t1, have, wanted)


def _by_brightness(predicted: Tensor, image: Tensor) -> Tensor | None:
    """The prediction as a function of the brightness of the image; None where it is more than that."""
    inside = image > 0
    share = F.avg_pool3d(inside.float(), 2)
    filled = share > _MOSTLY
    brightness, target = (_in_blocks(x, inside, share)[filled] for x in (image, predicted))
    brightness, order = brightness.sort()
    each = len(order) // _KNOTS
    if not each:
        return None
    target = target[order]
    levels, values = (x[: each * _KNOTS].view(_KNOTS, each).mean(dim=1) for x in (brightness, target))
    left = (target - _interpolated(brightness, levels, values)).square().mean()
    if float(left) > (1 - _BY_BRIGHTNESS) * float(target.var(correction=0)):
        return None
    return _interpolated(image, levels, values).clamp(0, 1) * inside


def _interpolated(x: Tensor, levels: Tensor, values: Tensor) -> Tensor:
    """The ``values`` at growing ``levels``, linearly between them and constant beyond."""
    right = torch.searchsorted(levels, x.contiguous()).clamp(1, len(levels) - 1)
    low, high = levels[right - 1], levels[right]
    part = ((x - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    return values[right - 1] + part * (values[right] - values[right - 1])


def _in_blocks(x: Tensor, inside: Tensor, share: Tensor) -> Tensor:
    """Means of blocks of 2×2×2 voxels over those ``inside``, of which there is this ``share``."""
    return F.avg_pool3d(x * inside, 2) / share.clamp_min(1e-6)


def with_detail(predicted: Tensor, image: Tensor, probabilities: Tensor, scheme: LabelScheme) -> Tensor:
    """(1, 1, I, J, K) in [0, 1], 0 where the ``image`` is: the ``predicted`` T1-weighted image, of the same shape, as
    the image and the ``probabilities`` (C, I/2, J/2, K/2) of ``scheme`` explain it. Sides are multiples of 8 voxels."""
    tissues = torch.stack([_summed(probabilities, scheme, _ALL_WHITE), _summed(probabilities, scheme, _ALL_FLUID)])
    tissues[1] += probabilities[0]
    inside = image > 0
    share = F.avg_pool3d(inside.float(), 2)
    brightness, target = (_in_blocks(x, inside, share) for x in (image, predicted))
    guides = torch.cat([brightness, tissues[None]], dim=1)
    slopes, constant = _least_squares(guides, target, share)
    explained = _in_voxels(constant, image.shape) + _in_voxels(slopes[:, :1], image.shape) * image
    for number in range(len(tissues)):
        there = F.interpolate(tissues[None, number : number + 1], size=image.shape[2:], mode="trilinear")
        explained += _in_voxels(slopes[:, number + 1 : number + 2], image.shape) * there
    return explained.clamp(0, 1) * inside


def _least_squares(guides: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes (1, N, p, q, r) of the ``guides`` (1, N, i, j, k) and the constant (1, 1, p, q, r) that explain the
    ``target`` (1, 1, i, j, k) in every window."""
    count = _window_means(weight).clamp_min(1e-6)
    everything = torch.cat([guides, target], dim=1)
    means = _window_means(everything * weight) / count
    products = everything[:, :, None] * everything[:, None] * weight[:, None]
    moments = _window_means(products.flatten(1, 2)) / count
    moments = moments.view(1, *products.shape[1:3], *moments.shape[2:])
    covariance = (moments - means[:, :, None] * means[:, None]).movedim((1, 2), (-2, -1))
    ridge = torch.diag(torch.tensor(_RIDGE, device=guides.device))
    slopes = torch.linalg.solve(covariance[..., :-1, :-1] + ridge, covariance[..., :-1, -1]).movedim(-1, 1)
    return slopes, means[:, -1:] - (slopes * means[:, :-1]).sum(dim=1, keepdim=True)


def _window_means(x: Tensor) -> Tensor:
    """Means over windows of blocks of 2×2×2 voxels, whose middles lie half a window apart, the first at the corner."""
    return F.avg_pool3d(x, _WINDOW // 2, _WINDOW // 4, _WINDOW // 4)


def _in_voxels(x: Tensor, shape: torch.Size) -> Tensor:
    """What holds in the middles of windows, (1, 1, p, q, r), between them: (1, 1, I, J, K)."""
    step = _WINDOW // 2
    voxels = F.interpolate(x, scale_factor=float(step), mode="trilinear")
    x_range, y_range, z_range = (slice(step // 2, step // 2 + n) for n in shape[2:])
    return voxels[..., x_range, y_range, z_range]


def _summed(probabilities: Tensor, scheme: LabelScheme, ids: tuple[int, ...]) -> Tensor:
    """(i, j, k): the probability of any structure of these FreeSurfer ids."""
    return probabilities[scheme.classes_of(ids)].sum(dim=0)
