"""A tensor with its grid: images, label maps and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from uresnet.core.coordinates import affine_coordinates, slabs
from uresnet.core.grid import AxisCodes, Grid, voxel_to_voxel
from uresnet.core.sampling import sample


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """``data`` (I, J, K) float32, finite, on ``grid``; ``path`` is only for messages, and so is ``title``, its name
    where it has no path.

    ``invalid`` (I, J, K) bool marks voxels that were not a number or infinite in the file and hold 0 here; None: none.
    ``oriented`` is False when the file does not say which way its axes run, and the grid is an assumption. ``chosen``
    says which part of a file that can hold several was taken. Raises ``ValueError`` for data of another shape than the
    grid's.

    >>> import uresnet
    >>> image = uresnet.read_image("image.nii.gz")
    >>> image.data.shape, image.data.dtype
    (torch.Size([52, 56, 40]), torch.float32)
    >>> image.grid.points_to_world([0, 0, 0]).round(1).tolist()  # RAS mm of the first voxel's centre
    [77.6, -102.2, -80.1]
    """

    data: Tensor
    grid: Grid
    path: str = ""
    invalid: Tensor | None = None
    oriented: bool = True
    title: str = ""
    chosen: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", self.data.to(torch.float32))
        _check_shape(self.data, self.grid)
        if self.invalid is not None:
            _check_shape(self.invalid, self.grid)

    def __repr__(self) -> str:
        return f"<Image {self.grid}>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """(I, J, K): its values, for NumPy."""
        return _as_array(self.data, dtype, copy)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.path or self.title or "the image"


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap:
    """``data`` (I, J, K) of whole numbers on ``grid``; a mask is a label map of 0 and 1.

    ``axis_codes`` is set on the brain mask of an image whose file does not say which way its axes run: the directions
    that they were seen to run in. The grid stays what the file was assumed to mean. Raises ``ValueError`` for data of
    another shape than the grid's, and for data that are no whole numbers.

    >>> import uresnet
    >>> labels = uresnet.read_labels("moving_dseg.nii.gz")
    >>> labels.data.shape == labels.mask.shape == labels.grid.shape
    True
    """

    data: Tensor
    grid: Grid
    path: str = ""
    axis_codes: AxisCodes | None = None

    def __post_init__(self) -> None:
        if self.data.is_floating_point() or self.data.is_complex():
            raise ValueError(f"labels are whole numbers, not {self.data.dtype}")
        _check_shape(self.data, self.grid)

    def __repr__(self) -> str:
        return f"<LabelMap {self.grid}>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """(I, J, K): its labels, for NumPy."""
        return _as_array(self.data, dtype, copy)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.path or "the label map"

    @property
    def mask(self) -> Tensor:
        """(I, J, K) bool: where the label is not 0."""
        return self.data != 0


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """``data`` (C, I, J, K), one channel per class, channel 0 the background, on ``grid``."""

    data: Tensor
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.ndim != 4:
            raise ValueError(f"probabilities are (C, I, J, K), not {tuple(self.data.shape)}")
        _check_shape(self.data[0], self.grid)

    def classes_on(self, grid: Grid) -> Tensor:
        """Most probable class at every voxel of another grid, (i, j, k) uint8 (int16 above 256 classes), on the CPU.

        Probabilities are interpolated (trilinear), then compared: labels never are. Outside this map's grid only
        background is possible. Works in slabs, so that a 0.5 mm native grid with 30 classes fits in little memory.
        """
        voxel_to_source = voxel_to_voxel(grid, self.grid)
        volume = self.data[None]
        dtype = torch.uint8 if len(self.data) <= 256 else torch.int16
        out = torch.empty(grid.shape, dtype=dtype)
        for part in slabs(grid.shape, channels=len(self.data)):
            shape = (part.stop - part.start, *grid.shape[1:])
            where = affine_coordinates(voxel_to_source, shape, self.data.device, first_slice=part.start)
            values = sample(volume, where, padding="zeros")[0]
            # Beyond the map nothing is known: what is missing from the sum of one is background.
            values[0] += 1 - values.sum(dim=0)
            out[part] = values.argmax(dim=0).to(dtype).cpu()
        return out


def _as_array(data: Tensor, dtype: DTypeLike | None, copy: bool | None) -> np.ndarray:
    values = data.cpu().numpy()
    return np.array(values, dtype) if copy else np.asarray(values, dtype)


def _check_shape(data: Tensor, grid: Grid) -> None:
    if tuple(data.shape) != grid.shape:
        raise ValueError(f"data of shape {tuple(data.shape)} does not fit a grid of shape {grid.shape}")
