"""Images synthesised from label maps, in the contrast of the scans of a training set."""

from __future__ import annotations

import torch
from torch import Tensor

from uresnet.training.data.classes import mirror_table
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.draws import fraction, smooth_field
from uresnet.training.examples.intensities import blurred

_DARKEST = 1e-3  # 0 is background
_KNOWN_FROM = 100  # voxels of an id in the scans, for its grey value to be used


def synthesise(labels: Tensor, greys: Tensor, variation: float, generator: torch.Generator) -> Tensor:
    """An image (1, 1, I, J, K) in [0, 1], background 0, from FreeSurfer ids of the same shape.

    Every structure has one grey value, drawn with the standard deviation ``variation`` about that of ``greys``, the
    result of :func:`grey_values`. Noise and blurring are added: they give the image grain and partial volumes.
    """
    device = labels.device
    mean, deviation = greys
    drawn = mean + variation * torch.randn(256, generator=generator, device=device)
    # Left and right get the same grey value.
    drawn = (drawn + drawn[mirror_table(device).long()]) / 2
    grain = deviation * (0.2 + 0.6 * torch.rand(256, generator=generator, device=device))
    noise = smooth_field(1, labels.shape[2:], 4, generator)[None]
    noise = 0.5 * noise + torch.randn(labels.shape, generator=generator, device=device)
    index = labels.long()
    image = (drawn[index] + grain[index] * noise).clamp(_DARKEST, 1)
    image = torch.where(labels > 0, image, torch.zeros_like(image))
    return blurred(image, 0.4 + 0.5 * fraction(generator))


def grey_values(store: DeviceStore) -> Tensor:
    """(2, 256): mean and standard deviation of the scans' intensities in every FreeSurfer id.

    An id that the scans lack takes the values of the other side; if they lack this too, lesions and the optic chiasm
    take those of white matter, darker, and the rest take those of cortex.
    """
    count, total, square = (torch.zeros(256, dtype=torch.float64) for _ in range(3))
    for image, labels in zip(store.images, store.labels, strict=True):
        index = labels.flatten().long().cpu()
        value = image.flatten().double().cpu() * store.image_scale
        for sums, weights in ((count, torch.ones_like(value)), (total, value), (square, value * value)):
            sums += torch.bincount(index, weights, minlength=256)
    mean = total / count.clamp(min=1)
    deviation = (square / count.clamp(min=1) - mean**2).clamp(min=0).sqrt()
    partner = mirror_table().long()
    for lacking in ((count < _KNOWN_FROM) & (count[partner] >= _KNOWN_FROM)).nonzero()[:, 0]:
        for values in (count, mean, deviation):
            values[lacking] = values[partner[lacking]]
    missing = count < _KNOWN_FROM
    cortex, white = 3, 2
    mean[missing], deviation[missing] = mean[cortex], deviation[cortex]
    for lesion in (25, 57, 77, 85):
        if missing[lesion]:
            mean[lesion], deviation[lesion] = 0.8 * mean[white], deviation[white]
    return torch.stack([mean, deviation]).float().to(store.images.device)
