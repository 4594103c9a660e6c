"""An image file through a transform, one volume in memory at a time, and what became of its labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from uresnet.core.choices import Interpolation
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError, warn_about_input
from uresnet.io import Series, warn_about_cleaned
from uresnet.io.kinds import Kind
from uresnet.transform import Transform, resample

_NAMED = 40  # labels in a warning
_ROUNDING = 1e-5  # of the values: what interpolation leaves of equal ones
_Counts = dict[int, int]


@dataclass(frozen=True, eq=False)
class Resampling:
    """The volumes of ``source`` on ``grid`` through ``transform``. ``fill``: outside; None: the source's background.

    Raises :class:`UserError` for a ``fill`` that the data type of the result cannot hold.
    """

    source: Series
    kind: Kind
    transform: Transform
    grid: Grid
    interpolation: Interpolation
    fill: float | None = None
    counts: list[tuple[_Counts, _Counts]] = field(default_factory=list)
    """Of each volume of a label map that has been resampled: voxels of every label before and after."""

    def __post_init__(self) -> None:
        outside, dtype = self.outside, self.dtype
        if dtype.kind == "f" and not self.keeps_labels:
            return
        limits = np.iinfo(dtype if dtype.kind in "iu" else np.int32)
        if not (math.isfinite(outside) and outside == math.floor(outside) and limits.min <= outside <= limits.max):
            raise UserError(
                f"{outside:g} cannot fill what lies outside of {self.source.path}, whose values are {dtype}; give a "
                "whole number of that type with --fill."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(I, J, K) or (I, J, K, T) of the result."""
        return (*self.grid.shape, *self.source.shape[3:])

    @property
    def keeps_values(self) -> bool:
        """Whether no values are mixed."""
        return self.interpolation in ("label", "nearest")

    @property
    def keeps_labels(self) -> bool:
        """Whether the result is a label map, or treated as one."""
        return self.interpolation == "label" or (self.kind.labels and self.interpolation == "nearest")

    @property
    def outside(self) -> float:
        """The value outside of the image."""
        return self.background if self.fill is None else self.fill

    @property
    def background(self) -> float:
        """The source's; 0 where whole numbers have to stand for NaN."""
        return 0.0 if self.keeps_labels and math.isnan(self.kind.background) else self.kind.background

    @property
    def stays_whole(self) -> bool:
        """Whether whole numbers are picked, and none is made."""
        return self.keeps_labels or (self.keeps_values and self.source.dtype.kind in "iub")

    @property
    def dtype(self) -> np.dtype:
        """The data type of the result."""
        if self.stays_whole:
            return (self.source.dtype if self.source.stored is None else self.source.stored).newbyteorder("=")
        if not self.keeps_values and self.source.stored is not None and not self.kind.labels:
            return self.source.stored.newbyteorder("=")
        return np.dtype(np.float32)

    def volumes(self) -> Iterator[np.ndarray]:
        """Each (I, J, K). After the last one, warns of labels that are lost, of voxels that are no numbers, and of a
        scan of which nothing is left. Raises :class:`UserError` then where no label is left, or none is a number.
        """
        self.counts.clear()
        cleaned, spread, left, numbers = 0, 0.0, 0.0, False
        for volume in self.source.volumes():
            if volume.dtype.kind == "f":
                invalid = np.isinf(volume) if math.isnan(self.background) else ~np.isfinite(volume)
                cleaned += int(invalid.sum())
            numbers = numbers or volume.dtype.kind != "f" or bool(np.isfinite(volume).any())
            result = self._kept(volume) if self.stays_whole else self._mixed(volume)
            spread, left = max(spread, _spread(volume)), max(left, _spread(result))
            yield result
        if not numbers:
            raise UserError(f"{self.source.path} holds no numbers at all; check that it is the right file.")
        if cleaned:
            warn_about_cleaned(self.source.path, cleaned, self.background)
        self._check_lost_labels()
        if left <= _ROUNDING * spread and spread > 0 and not self.keeps_labels:
            warn_about_input(
                f"Nothing of {self.source.path} is left on the new grid but its background; check which way the "
                "transform maps, and which grid --like names."
            )

    def table(self) -> str:
        """Tab-separated: voxels and mm³ of every label of every volume, before and after; when all are resampled."""
        before_mm3, after_mm3 = self.source.grid.voxel_volume, self.grid.voxel_volume
        rows = ["volume\tlabel\tvoxels_before\tmm3_before\tvoxels_after\tmm3_after"]
        for number, (before, after) in enumerate(self.counts, start=1):
            for label in sorted({*before, *after}):
                old, new = before.get(label, 0), after.get(label, 0)
                rows.append(f"{number}\t{label}\t{old}\t{old * before_mm3:.6g}\t{new}\t{new * after_mm3:.6g}")
        return "\n".join(rows) + "\n"

    def _kept(self, volume: np.ndarray) -> np.ndarray:
        """Whole numbers, none of which are mixed."""
        if volume.dtype.kind == "f":
            volume = np.rint(np.where(np.isfinite(volume), volume, self.background))
        wide = volume.astype(np.int64 if volume.dtype.itemsize > 4 or volume.dtype.kind == "u" else np.int32)
        labels = LabelMap(torch.from_numpy(wide), self.source.grid)
        result = resample(self.transform, labels, self.grid, self.interpolation, self.outside).data.numpy()
        if self.keeps_labels:
            self.counts.append((_counted(wide, self.background), _counted(result, self.background)))
        return result.astype(self.dtype)

    def _mixed(self, volume: np.ndarray) -> np.ndarray:
        """Values between voxels. What is no number takes no part: where it has most of a voxel there is background."""
        with np.errstate(over="ignore"):
            values = volume.astype(np.float32)
        invalid = ~np.isfinite(values)
        missing = None
        if invalid.any():
            values = _continued(values, invalid)
            shares = Image(torch.from_numpy(invalid.astype(np.float32)), self.source.grid)
            how: Interpolation = "nearest" if self.interpolation == "nearest" else "linear"
            missing = resample(self.transform, shares, self.grid, how).data.numpy() > 0.5
        image = Image(torch.from_numpy(values), self.source.grid)
        result = resample(self.transform, image, self.grid, self.interpolation, self.outside).data.numpy()
        if missing is not None:
            result[missing] = self.outside if math.isnan(self.background) else self.background
        return result if self.dtype.kind == "f" else _as_integers(result, self.dtype)

    def _check_lost_labels(self) -> None:
        lost = sorted({label for before, after in self.counts for label in before.keys() - after.keys()})
        if not lost:
            return
        all_of_them = {label for before, _ in self.counts for label in before}
        if not any(after for _, after in self.counts):
            labels = "the only label" if len(all_of_them) == 1 else f"all {len(all_of_them)} labels"
            raise UserError(
                f"{self.source.path} loses {labels} on the new grid: smaller than its voxels, or outside of it; check "
                "which way the transform maps, give finer voxels with --like, or choose --interpolation linear."
            )
        named = ", ".join(map(str, lost[:_NAMED])) + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
        warn_about_input(
            f"{self.source.path} loses {len(lost)} of its {len(all_of_them)} labels on the new grid: {named}. What is "
            "lost is smaller than a voxel, or lies outside."
        )


def _counted(values: np.ndarray, background: float) -> _Counts:
    found, counts = np.unique(values, return_counts=True)
    return {int(v): int(n) for v, n in zip(found, counts, strict=True) if v not in (0, background)}


def _spread(values: np.ndarray) -> float:
    """Between the smallest and the largest number."""
    numbers = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return float(numbers.max()) - float(numbers.min()) if numbers.size else 0.0


def _continued(values: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Each invalid voxel with the value of the nearest valid one."""
    if invalid.all():
        return np.zeros_like(values)
    nearest = ndimage.distance_transform_edt(invalid, return_distances=False, return_indices=True)
    return np.ascontiguousarray(values[tuple(nearest)])


def _as_integers(values: np.ndarray, stored: np.dtype) -> np.ndarray:
    """Rounded and clipped: cubic interpolation overshoots, and -1 would become the largest unsigned number."""
    limits = np.iinfo(stored)
    # The largest 64-bit integer is not a double: rounded up to one, it would overflow.
    highest = float(limits.max) if limits.bits < 64 else np.nextafter(float(limits.max), 0)
    return np.rint(values.astype(np.float64)).clip(float(limits.min), highest).astype(stored)
