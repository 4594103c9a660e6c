"""Where the brain is: whether an image still has its skull, and taking it off.

Stripping is the work of deepbet (Fisch et al., Computers in Biology and Medicine 2024; MIT licence): its two networks
are run here as its wheel carries them. The package itself is never imported, because it brings a graphical interface
and libraries under the LGPL that two lines of scipy replace.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from uresnet.core.grid import AxisCodes, axis_order, directions
from uresnet.core.image import Image, LabelMap
from uresnet.errors import InputWarning, UserError

METHODS = ("auto", "none")

# A brain with the fluid around it has at most about 2 litres, a head of the same person more than twice that.
_CERTAINLY_BRAIN_LITRES = 2.1
_CERTAINLY_HEAD_LITRES = 2.8
_PLAUSIBLE_BRAIN_LITRES = (0.4, 2.8)
_MOSTLY_BACKGROUND = 0.9  # of the outermost voxels, in an image without skull
_BRAIN_SHARE = 0.8  # of what is not background, in an image without skull

_MIN_VOXELS = 8
_MIN_EXTENT_MM = 60.0
_MAX_ZOOM_MM = 10.0
_REMARKABLE_ZOOM_MM = 4.0
_LARGEST_REPAIRABLE_HOLE = 27  # voxels

_BLURRED_LAYERS, _RIM_WINDOW = 2, 7  # voxels
_BLURRED_SHARE = 0.7  # of the outermost voxels; five brains as stripped: 0.02 to 0.51, one interpolated: 0.86 to 0.92


@dataclass(frozen=True)
class Foreground:
    """What is not background. ``mask`` (I, J, K) bool; ``value``: the background's; ``border``: its share there."""

    mask: np.ndarray
    value: float
    border: float
    litres: float


def extract_brain(
    image: Image,
    method: str = "auto",
    mask: LabelMap | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
) -> tuple[LabelMap, str]:
    """The brain as a mask on the image's own grid, and a sentence that says how it was found.

    A given ``mask`` is used as it is and must lie on the image's grid. Otherwise ``method`` "auto" strips the skull
    where there is one (deepbet, on ``device``), and "none" takes everything that is not background for brain.
    Raises :class:`UserError` for an image that holds no whole head: empty, few slices, coarse voxels, voxels inside
    the brain that are no numbers; and for a mask that is empty or lies elsewhere.
    """
    if method not in METHODS:
        raise UserError(f"Unknown way to find the brain '{method}'; choose one of {', '.join(METHODS)}.")
    _check_whole_head(image)
    axis_codes: AxisCodes | None = None
    if mask is not None:
        found, how = _given_mask(image, mask), f"brain taken from {mask.name}"
    else:
        foreground = find_foreground(image)
        if method == "none":
            found, how = foreground.mask, "everything that is not background taken for brain"
        elif _has_skull(image, foreground, device, threads):
            axis_codes = None if image.oriented else _seen_axes(image, device, threads)
            found, how = strip_skull(image, device, threads, axis_codes), "skull found and stripped with deepbet"
        else:
            found, how = foreground.mask, "no skull found, image used as it is"
    _check_brain(image, found, by_volume=mask is None and method == "auto")
    return LabelMap(torch.from_numpy(found.astype(np.uint8)), image.grid, image.path, axis_codes), how


def find_foreground(image: Image) -> Foreground:
    """Everything that is not background: the pieces that matter, with their holes filled.

    Background is the commonest value on the border of the volume (0, or what a file holds instead), exactly where the
    border is exact, and within a thousandth of the intensity range where it is not (resampled or compressed images).
    Where interpolation has blurred the edge of what was stripped, the half that was background before is background.
    Raises :class:`UserError` when all voxels have one value.
    """
    data = image.data.numpy()
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "only zeros" if low == 0 else f"the same value everywhere ({low:g})"
        raise UserError(f"{image.name} holds {what}; check that it is the image you mean.")
    border = _border_values(data)
    values, counts = np.unique(border, return_counts=True)
    value = float(values[counts.argmax()])
    tolerance = 1e-3 * float(np.quantile(np.abs(data[:: max(1, data.shape[0] // 64)] - value), 0.995))
    near = np.abs(border - value) <= tolerance
    exact = counts.max() >= 0.9 * near.sum()
    rough = data != value if exact else np.abs(data - value) > tolerance
    mask = _without_blurred_rim(_filled(_without_specks(rough)), np.abs(data - value))
    litres = float(mask.sum()) * image.grid.voxel_volume / 1e6
    return Foreground(mask, value, float(near.mean()), litres)


def has_skull(image: Image, device: str | torch.device = "cpu", threads: int | None = None) -> bool:
    """Whether the image shows a head rather than a brain: by size, and where that is not certain by looking inside."""
    return _has_skull(image, find_foreground(image), device, threads)


def _has_skull(image: Image, foreground: Foreground, device: str | torch.device, threads: int | None) -> bool:
    if foreground.litres >= _CERTAINLY_HEAD_LITRES:
        return True
    if foreground.litres <= _CERTAINLY_BRAIN_LITRES and foreground.border >= _MOSTLY_BACKGROUND:
        return False
    # A tightly cropped brain, a large one, a small head, or a head cut by its field of view.
    brain = strip_skull(image, device, threads)
    return float((brain & foreground.mask).sum()) < _BRAIN_SHARE * float(foreground.mask.sum())


# -- deepbet ---------------------------------------------------------------------------------------------------------

_RAS = ("R", "A", "S")
_COARSE, _FINE = (128, 128, 128), (256, 256, 256)
_QUICK = (96, 96, 96)
_CLEARLY_SURER = 3e-4  # mean probability inside the brain; five heads: 0.0001 to 0.004 between the best two ways round
_BOX_MARGIN = 0.1  # of the box, on either side
_LOADING = Lock()  # filters of warnings belong to all threads


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
        coarse = _largest(_brain_channel(finder, small, low, high).cpu().numpy() > 0.5)
        box = _box_with_margin(coarse, tuple(head.shape))
        if box is None:
            raise UserError(f"{image.name} shows no brain that deepbet can find; give a brain mask for it.")
        inside = F.interpolate(head[box][None, None], _FINE, mode="nearest-exact")
        probability = _brain_channel(stripper, inside, low, high)
        probability = F.interpolate(probability[None, None], head[box].shape, mode="trilinear")[0, 0]
    brain = np.zeros(head.shape, dtype=bool)
    brain[box] = _filled(_largest(probability.cpu().numpy() > 0.5))
    return _turned(brain, _RAS, codes)


def _seen_axes(image: Image, device: str | torch.device, threads: int | None) -> AxisCodes:
    """Where the axes of a head point, by trying all 24 ways to turn it: deepbet's first network is surest of the brain
    when the head is upright and looks ahead. Left and right cannot be told; the grid's handedness is kept.
    """
    finder = _network("bbox_model.pt", device)
    assumed = image.grid.axis_codes
    handed = np.linalg.det(directions(assumed))
    sureness: dict[AxisCodes, float] = {}
    with torch.inference_mode(), _number_of_threads(threads):
        for codes in _all_axes():
            if np.linalg.det(directions(codes)) != handed:
                continue
            head = torch.from_numpy(_turned(image.data.numpy(), codes, _RAS)).to(device)
            small = F.interpolate(head[None, None], _QUICK, mode="nearest-exact")
            probability = _brain_channel(finder, small, *_intensity_range(small)).cpu().numpy()
            brain = _largest(probability > 0.5)
            sureness[codes] = float(probability[brain].mean()) if brain.any() else 0.0
    best = max(sureness, key=lambda codes: sureness[codes])
    if sureness[best] <= sureness[assumed] + _CLEARLY_SURER:
        return assumed
    _warn(f"{image.name} looks as if its axes ran {'-'.join(best)}, and is used so: check the result.")
    return best


def _all_axes() -> Iterator[AxisCodes]:
    for a, b, c in permutations(("RL", "AP", "SI")):
        yield from product(a, b, c)


def _intensity_range(volume: Tensor) -> tuple[float, float]:
    low, high = np.quantile(volume.cpu().numpy(), (0.005, 0.995))
    return float(low), float(high)


def _network(name: str, device: str | torch.device) -> torch.jit.ScriptModule:
    try:
        path = Path(str(importlib.metadata.distribution("deepbet").locate_file(f"data/models/{name}")))
    except importlib.metadata.PackageNotFoundError:
        path = Path("deepbet")
    if not path.is_file():
        raise UserError("Stripping a skull needs deepbet, which is not installed; install it, or give brain masks.")
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # inside torch.jit; ours, of another image, pass
        return torch.jit.load(str(path), map_location=device).eval()


def _brain_channel(network: torch.jit.ScriptModule, volume: Tensor, low: float, high: float) -> Tensor:
    """Probability of brain, (I, J, K), of a volume (1, 1, I, J, K) scaled as deepbet was trained."""
    scaled = ((volume - low) / max(high - low, 1e-12)).clamp(0, 1)
    scaled = 0.226 * (scaled - scaled.mean()) / scaled.std().clamp_min(1e-12) + 0.449
    # Without the profiling executor: it would compile another program for the second call than for the first.
    with torch.jit.optimized_execution(False):
        return network(scaled)[0, 1]


def _box_with_margin(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice, slice] | None:
    box = []
    for axis in range(3):
        # Slices of which more than a fiftieth is brain: a stray thread of voxels does not widen the box.
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


# -- shapes ----------------------------------------------------------------------------------------------------------

_ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask, _ALL_NEIGHBOURS)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Pieces of at least a hundredth of the largest."""
    labels, count = ndimage.label(mask, _ALL_NEIGHBOURS)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= 0.01 * sizes.max())[labels] & mask


def _filled(mask: np.ndarray) -> np.ndarray:
    """Without holes: background that is cut off from the border of the volume."""
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    out = mask.copy()
    # A layer of background around the box keeps a brain that touches its border from closing off the outside.
    out[box] |= ndimage.binary_fill_holes(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    return out


def _without_blurred_rim(mask: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Without the voxels that interpolation made from background: dimmer than two fifths of what lies further in.

    That is half of what the edge itself had, which is dimmer than the inside.

    ``height`` (I, J, K) is the distance from the background's value. Only where nearly all of the outermost voxels are
    dim; brains as they were stripped keep every voxel, those with fluid around them too.
    """
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside, height = np.pad(mask[box], 1), np.pad(height[box], 1)
    core = ndimage.binary_erosion(inside, iterations=_BLURRED_LAYERS)
    weight = ndimage.uniform_filter(core.astype(np.float32), _RIM_WINDOW)
    further_in = ndimage.uniform_filter(np.where(core, height, 0).astype(np.float32), _RIM_WINDOW)
    dim = inside & ~core & (height * weight < 0.4 * further_in) & (weight > 1e-4)
    outermost = inside & ~ndimage.binary_erosion(inside)
    if dim[outermost].mean() < _BLURRED_SHARE:
        return mask
    out = mask.copy()
    out[box] &= ~ndimage.binary_propagation(~inside, mask=~inside | dim)[1:-1, 1:-1, 1:-1]
    return out


def _border_values(data: np.ndarray) -> np.ndarray:
    faces = (data[0], data[-1], data[:, 0], data[:, -1], data[:, :, 0], data[:, :, -1])
    return np.concatenate([face.ravel() for face in faces])


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_whole_head(image: Image) -> None:
    shape, zooms = image.grid.shape, image.grid.zooms
    axis = int(np.argmin(shape * zooms))
    fewest = int(np.argmin(shape))
    if shape[fewest] < _MIN_VOXELS:
        raise UserError(
            f"{image.name} has only {shape[fewest]} slices along one axis; give an image of the whole brain."
        )
    extent = shape[axis] * zooms[axis]
    if extent < _MIN_EXTENT_MM:
        raise UserError(f"{image.name} covers only {extent:.0f} mm along one axis; give an image of the whole brain.")
    if zooms.max() > _MAX_ZOOM_MM:
        raise UserError(f"{image.name} has voxels of {zooms.max():.1f} mm; give an image with a finer resolution.")
    if zooms.max() > _REMARKABLE_ZOOM_MM:
        _warn(f"{image.name} has voxels of {zooms.max():.1f} mm: expect a coarse result.")
    if image.invalid is not None and _largest_hole(image.invalid.numpy()) > _LARGEST_REPAIRABLE_HOLE:
        raise _not_numbers(image)


def _largest_hole(invalid: np.ndarray) -> int:
    """Voxels of the largest piece that does not touch the border: at the border it is a way to say background."""
    labels, _ = ndimage.label(invalid, _ALL_NEIGHBOURS)
    sizes = np.bincount(labels.ravel())
    sizes[np.unique(_border_values(labels))] = 0
    sizes[0] = 0
    return int(sizes.max())


def _check_brain(image: Image, brain: np.ndarray, by_volume: bool) -> None:
    if image.invalid is not None and (brain & image.invalid.numpy()).any():
        raise _not_numbers(image)
    litres = float(brain.sum()) * image.grid.voxel_volume / 1e6
    low, high = _PLAUSIBLE_BRAIN_LITRES
    if by_volume and not low <= litres <= high:
        raise UserError(
            f"{image.name} seems to hold a brain of {litres:.2f} litres, which cannot be; give a brain mask for it."
        )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, InputWarning, stacklevel=3)


def _not_numbers(image: Image) -> UserError:
    count = int(image.invalid.sum()) if image.invalid is not None else 0
    return UserError(
        f"{image.name} has {count} voxels that are not a number or infinite in the brain; repair it first."
    )


def _given_mask(image: Image, mask: LabelMap) -> np.ndarray:
    if not mask.grid.same_as(image.grid, atol_mm=0.1):
        raise UserError(f"{mask.name} lies on another grid than {image.name}; resample the mask to the image first.")
    brain = mask.mask.numpy()
    if not brain.any():
        raise UserError(f"{mask.name} is empty; give a mask that marks the brain.")
    return brain
