"""Taking the skull off a head of any contrast, with a network of our own.

The network sees the whole field of view on voxels of 2 mm in R-A-S axes. It learned from label maps alone
(docs/models/brain.md). What it calls brain includes the fluid between the folds and two millimetres around them, as the
brain masks of FreeSurfer do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import permutations, product
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.grid import AxisCodes, axis_order, directions
from uresnet.core.image import Image
from uresnet.core.sampling import along_axes, averaging_matrix, interpolation_matrix
from uresnet.errors import UserError, warn_about_input
from uresnet.model.catalogue import brain_finder
from uresnet.model.checkpoint import load_model
from uresnet.model.segmenter import Segmenter, channels_to_blocks
from uresnet.preprocess.foreground import largest_piece, without_holes

_RAS = ("R", "A", "S")
_VOXEL_MM = 2.0
_CERTAIN = 10.0  # log-odds
_MULTIPLE = 16  # voxels, of which a side of what the network sees is made
_DARK, _BRIGHT = 0.005, 0.995  # percentiles of the field of view that become 0 and 1
_AIR, _FEW = 0.1, 0.002  # slices with fewer voxels than this share above this intensity show no head
_MARGIN = 6  # voxels of air that are looked at around the head
# Mean log-odds of brain inside the brain. Between the best two ways to turn a head: 0.19 to 0.29, in six heads.
_CLEARLY_MORE_CERTAIN = 0.05


def strip_skull(
    image: Image,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    axis_codes: AxisCodes | None = None,
) -> np.ndarray:
    """The brain in a head, (I, J, K) bool on the image's grid.

    ``axis_codes``: where the array axes point, if not where the grid says. Raises :class:`UserError` when no brain is
    seen.
    """
    codes = axis_codes or image.grid.axis_codes
    head, zooms = _upright(image, codes, device)
    with torch.inference_mode(), _number_of_threads(threads):
        evidence = _evidence(_on_wide_voxels(head, zooms))
        back = [interpolation_matrix(n, zoom, _VOXEL_MM).to(device) for n, zoom in zip(head.shape, zooms, strict=True)]
        seen = (along_axes(evidence, back) > 0).cpu().numpy()
    if not seen.any():
        raise UserError(f"{image.name} shows no brain that can be found; give a brain mask for it.")
    return _turned(without_holes(largest_piece(seen)), _RAS, codes)


def apparent_axes(image: Image, device: str | torch.device, threads: int | None) -> AxisCodes:
    """The directions in which the array axes of a head seem to point.

    Of the 24 ways to turn the head, the one in which the network is most certain of what is brain: it learned from
    upright heads that look ahead. Left and right cannot be told apart; the grid's handedness is kept.
    """
    assumed = image.grid.axis_codes
    handed = np.linalg.det(directions(assumed))
    certainty: dict[AxisCodes, float] = {}
    with torch.inference_mode(), _number_of_threads(threads):
        small = _on_wide_voxels(image.data.float(), image.grid.zooms).numpy()
        for codes in _all_axes():
            if np.linalg.det(directions(codes)) == handed:
                head = torch.from_numpy(_turned(small, codes, _RAS)).to(device)
                certainty[codes] = _certainty(_evidence(head))
    best = max(certainty, key=lambda codes: certainty[codes])
    if certainty[best] <= certainty[assumed] + _CLEARLY_MORE_CERTAIN:
        return assumed
    warn_about_input(f"{image.name} looks as if its axes ran {'-'.join(best)}, and is used so: check the result.")
    return best


def _certainty(evidence: Tensor) -> float:
    """The mean log-odds of brain in the piece that seems to be the brain; 0 where there is none."""
    odds = evidence.cpu().numpy()
    brain = largest_piece(odds > 0)
    return float(odds[brain].mean()) if brain.any() else 0.0


def _all_axes() -> Iterator[AxisCodes]:
    for a, b, c in permutations(("RL", "AP", "SI")):
        yield from product(a, b, c)


@cache
def _network() -> Segmenter:
    return cast(Segmenter, load_model(brain_finder()).network)


def _on_wide_voxels(head: Tensor, zooms: np.ndarray) -> Tensor:
    """A head (I, J, K) with voxels of ``zooms`` mm on voxels of 2 mm, about the same centre."""
    sides = zip(head.shape, zooms, strict=True)
    return along_axes(head, [averaging_matrix(n, zoom, _VOXEL_MM).to(head.device) for n, zoom in sides])


def _evidence(small: Tensor) -> Tensor:
    """Log-odds of brain for every voxel of 2 mm of a field of view (I, J, K), as the network sees it."""
    dark, bright = np.quantile(small.cpu().numpy(), (_DARK, _BRIGHT))
    scaled = ((small - float(dark)) / max(float(bright - dark), 1e-12)).clamp(0, 1)
    box = _head(scaled)
    shape = scaled[box].shape
    missing = [-n % _MULTIPLE for n in shape]
    padded = F.pad(scaled[box], [n for missed in reversed(missing) for n in (0, missed)])[None, None]
    network = _network().to(small.device)
    logits = network.logits(network.features(padded))[0]
    odds = (logits[..., 1] - logits[..., 0]).T.reshape(1, -1, *(n // 2 for n in padded.shape[2:]))
    evidence = torch.full_like(small, -_CERTAIN)
    evidence[box] = channels_to_blocks(odds)[0, 0][tuple(slice(n) for n in shape)]
    return evidence


def _head(scaled: Tensor) -> tuple[slice, ...]:
    """The field of view without the air at its ends; all of it where there is nothing else."""
    box = []
    for axis, n in enumerate(scaled.shape):
        others = [a for a in range(3) if a != axis]
        filled = ((scaled > _AIR).float().mean(dim=others) > _FEW).nonzero()[:, 0].tolist() or [0, n - 1]
        box.append(slice(max(0, filled[0] - _MARGIN), min(n, filled[-1] + 1 + _MARGIN)))
    return tuple(box)


def _upright(image: Image, codes: AxisCodes, device: str | torch.device) -> tuple[Tensor, np.ndarray]:
    """The array in R-A-S axes, and the sizes of its voxels in mm."""
    order, _ = axis_order(codes, _RAS)
    return torch.from_numpy(_turned(image.data.numpy(), codes, _RAS)).float().to(device), image.grid.zooms[list(order)]


def _turned(data: np.ndarray, source: AxisCodes, target: AxisCodes) -> np.ndarray:
    order, sign = axis_order(source, target)
    return np.ascontiguousarray(data.transpose(order)[tuple(slice(None, None, s) for s in sign)])


@contextmanager
def _number_of_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
