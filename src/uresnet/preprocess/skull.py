"""Taking the skull off a head, by deepbet.

deepbet is Fisch et al., Computers in Biology and Medicine 2024 (MIT licence). Its two networks are run here as its
wheel carries them. The package itself is never imported, because it brings a graphical interface and libraries under
the LGPL that two lines of scipy replace.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations, product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.grid import AxisCodes, axis_order, directions
from uresnet.core.image import Image
from uresnet.errors import UserError, warn_about_input
from uresnet.preprocess.foreground import largest_piece, without_holes

_RAS = ("R", "A", "S")
_COARSE, _FINE = (128, 128, 128), (256, 256, 256)
_QUICK = (96, 96, 96)
# Mean probability inside the brain. Between the two best ways to turn a head: 0.0001 to 0.004, in five heads.
_CLEARLY_MORE_CERTAIN = 3e-4
_BOX_MARGIN = 0.1  # of the box, on either side
# TorchScript is a program: only the files of these versions are run.
_VERSIONS = ("1.0.2",)
_KNOWN_SHA256 = {
    "bbox_model.pt": {"39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa"},
    "model.pt": {"de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd"},
}
_LOADING = Lock()  # filters of warnings belong to all threads
_JIT: Any = torch.jit  # whose types are incomplete


def strip_skull(
    image: Image,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    axis_codes: AxisCodes | None = None,
) -> np.ndarray:
    """The brain in a head, (I, J, K) bool on the image's grid, by deepbet's two networks.

    The first finds the brain's box in the whole volume at 128³, the second the brain in that box at 256³, both in
    R-A-S axes. ``axis_codes``: where the array axes point, if not where the grid says. Raises :class:`UserError` when
    deepbet is not installed or sees no brain.
    """
    finder, stripper = (_network(name, device) for name in ("bbox_model.pt", "model.pt"))
    codes = axis_codes or image.grid.axis_codes
    head = torch.from_numpy(_turned(image.data.numpy(), codes, _RAS)).to(device)
    with torch.inference_mode(), _number_of_threads(threads):
        small = F.interpolate(head[None, None], _COARSE, mode="nearest-exact")
        low, high = _intensity_range(small)
        coarse = largest_piece(_brain_channel(finder, small, low, high).cpu().numpy() > 0.5)
        box = _box_with_margin(coarse, tuple(head.shape))
        if box is None:
            raise UserError(f"{image.name} shows no brain that deepbet can find; give a brain mask for it.")
        inside = F.interpolate(head[box][None, None], _FINE, mode="nearest-exact")
        probability = _brain_channel(stripper, inside, low, high)
        probability = F.interpolate(probability[None, None], head[box].shape, mode="trilinear")[0, 0]
    brain = np.zeros(head.shape, dtype=bool)
    brain[box] = without_holes(largest_piece(probability.cpu().numpy() > 0.5))
    return _turned(brain, _RAS, codes)


def apparent_axes(image: Image, device: str | torch.device, threads: int | None) -> AxisCodes:
    """The directions in which the array axes of a head seem to point.

    Of the 24 ways to turn the head, the one in which deepbet's first network finds the brain with the highest
    probability: it was trained on upright heads that look ahead. Left and right cannot be told apart; the grid's
    handedness is kept. Raises :class:`UserError` when deepbet is not installed.
    """
    finder = _network("bbox_model.pt", device)
    assumed = image.grid.axis_codes
    handed = np.linalg.det(directions(assumed))
    certainty: dict[AxisCodes, float] = {}
    with torch.inference_mode(), _number_of_threads(threads):
        for codes in _all_axes():
            if np.linalg.det(directions(codes)) != handed:
                continue
            head = torch.from_numpy(_turned(image.data.numpy(), codes, _RAS)).to(device)
            small = F.interpolate(head[None, None], _QUICK, mode="nearest-exact")
            probability = _brain_channel(finder, small, *_intensity_range(small)).cpu().numpy()
            brain = largest_piece(probability > 0.5)
            certainty[codes] = float(probability[brain].mean()) if brain.any() else 0.0
    best = max(certainty, key=lambda codes: certainty[codes])
    if certainty[best] <= certainty[assumed] + _CLEARLY_MORE_CERTAIN:
        return assumed
    warn_about_input(f"{image.name} looks as if its axes ran {'-'.join(best)}, and is used so: check the result.")
    return best


def _all_axes() -> Iterator[AxisCodes]:
    for a, b, c in permutations(("RL", "AP", "SI")):
        yield from product(a, b, c)


def _intensity_range(volume: Tensor) -> tuple[float, float]:
    low, high = np.quantile(volume.cpu().numpy(), (0.005, 0.995))
    return float(low), float(high)


def _network(name: str, device: str | torch.device) -> Any:
    """One of deepbet's two networks, a TorchScript module."""
    try:
        path = Path(str(importlib.metadata.distribution("deepbet").locate_file(f"data/models/{name}")))
    except importlib.metadata.PackageNotFoundError:
        path = Path("deepbet")
    if not path.is_file():
        raise UserError("Stripping a skull needs deepbet, which is not installed; install it, or give brain masks.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() not in _KNOWN_SHA256[name]:
        raise UserError(
            f"{path} is not a network of deepbet {' or '.join(_VERSIONS)}, and is not run because it may hold any "
            "program; install deepbet again, or give brain masks."
        )
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # inside torch.jit; ours, of another image, pass
        return _JIT.load(io.BytesIO(content), map_location=device).eval()


def _brain_channel(network: Any, volume: Tensor, low: float, high: float) -> Tensor:
    """Probability of brain, (I, J, K), of a volume (1, 1, I, J, K) scaled as deepbet was trained."""
    scaled = ((volume - low) / max(high - low, 1e-12)).clamp(0, 1)
    scaled = 0.226 * (scaled - scaled.mean()) / scaled.std().clamp_min(1e-12) + 0.449
    # The profiling executor would compile another program for the second call than for the first.
    with _JIT.optimized_execution(False):
        probability: Tensor = network(scaled)[0, 1]
    return probability


def _box_with_margin(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice, slice] | None:
    box = []
    for axis in range(3):
        # Slices of which more than a fiftieth is brain: a thin strand of voxels does not widen the box.
        filled = np.flatnonzero(mask.mean(axis=tuple(a for a in range(3) if a != axis)) > 0.02)
        if not len(filled):
            return None
        scale = shape[axis] / mask.shape[axis]
        centre = round(scale * (filled[0] + filled[-1] + 1) / 2)
        size = round(scale * (filled[-1] + 1 - filled[0]) * (1 + 2 * _BOX_MARGIN))
        box.append(slice(max(0, int(centre - size / 2)), min(shape[axis], int(centre + size / 2))))
    return box[0], box[1], box[2]


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
