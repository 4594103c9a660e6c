"""Label map or scan: decided here for every command, from the values of a file and what its header says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from uresnet.core.background import label_background, scan_background

_PATCHES = 0.5  # share of neighbours in the foreground that are equal: near 1 in label maps, below 0.2 in scans
_PATCHES_OF_A_VALUE = 0.2  # the same for the middle one of all values: in scans, few values make all patches
_NEAR_WHOLE, _NEAR_ZERO = 1e-3, 1e-5  # what scaling and interpolation leave of whole numbers


@dataclass(frozen=True)
class Kind:
    """``labels``: a label map, else a scan. ``whole``: all values that are finite are whole numbers.

    ``background``: what lies outside; NaN is a background of scans. ``reason``: in a few words.
    """

    labels: bool
    whole: bool
    background: float
    reason: str


def decide_kind(volumes: Iterable[np.ndarray], called_labels: bool) -> Kind:
    """What the volumes (I, J, K) of one file are.

    Values that are no numbers are left out. Whole numbers that the header calls labels (``called_labels``), or that lie
    in patches, are labels: at least half of all pairs of neighbours that are both not background are equal, and the
    patches are not those of a few values only, as a second background is. Single voxels far apart count as patches.
    Volumes of one value (an empty first one) say nothing where others follow. Floating-point volumes are read to the
    end where the first ones are whole.
    """
    remaining = iter(volumes)
    first = telling = next(remaining)
    whole = is_whole(first)
    while whole and _is_constant(telling):
        following = next(remaining, None)
        if following is None:
            telling = first
            break
        telling, whole = following, is_whole(following)
    background = scan_background(telling)
    if not whole:
        return Kind(False, False, background, "not only whole numbers: a scan")
    if called_labels or in_patches(telling, background):
        if telling.dtype.kind == "f" and not all(is_whole(volume) for volume in chain(remaining)):
            return Kind(False, False, background, "not only whole numbers: a scan")
        why = "called labels in the header" if called_labels else "whole numbers in patches"
        return Kind(True, True, label_background(telling), f"{why}: a label map")
    whole = telling.dtype.kind != "f" or all(is_whole(volume) for volume in remaining)
    if not whole:
        return Kind(False, False, background, "not only whole numbers: a scan")
    return Kind(False, True, background, "whole numbers that change from voxel to voxel: a scan")


def is_whole(values: np.ndarray) -> bool:
    """Whether all values that are finite are whole numbers, up to what scaling and rounding leave."""
    if values.dtype.kind in "iub":
        return True
    finite = values[np.isfinite(values)]
    nearest = np.rint(finite)
    apart = np.abs(finite - nearest)
    near = apart <= np.where(nearest == 0, _NEAR_ZERO, _NEAR_WHOLE)
    return bool(near.all()) and (bool(nearest.any()) or not apart.any())


def in_patches(values: np.ndarray, background: float) -> bool:
    """Whether whole numbers (I, J, K) lie in patches of one value. See :func:`decide_kind`."""
    ids = _compact(values, background)
    count = int(ids.max()) + 1
    same, other = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for axis in range(3):
        a = np.take(ids, range(ids.shape[axis] - 1), axis).ravel()
        b = np.take(ids, range(1, ids.shape[axis]), axis).ravel()
        inside = (a != 0) & (b != 0)
        a, b = a[inside], b[inside]
        equal = a == b
        same += np.bincount(a[equal], minlength=count)
        other += np.bincount(a[~equal], minlength=count) + np.bincount(b[~equal], minlength=count)
    total = int(same.sum()) + int(other.sum()) // 2
    if same.sum() < _PATCHES * total:
        return False
    shares = (same / np.maximum(same + other, 1))[(same + other) > 0]
    return shares.size == 0 or float(np.median(shares)) >= _PATCHES_OF_A_VALUE


def _compact(values: np.ndarray, background: float) -> np.ndarray:
    """The values numbered from 1; 0 for 0, for the background and for what is no number."""
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), np.rint(values), 0)
    found, ids = np.unique(values, return_inverse=True)
    numbers = np.arange(1, len(found) + 1, dtype=np.int32)
    numbers[(found == 0) | (found == background)] = 0
    return np.asarray(numbers[ids.reshape(values.shape)])


def _is_constant(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return finite.size == 0 or bool(finite.min() == finite.max())
