"""Images that a caller holds in memory, whoever's they are: to images on grids, and back.

nibabel, SimpleITK, ANTsPy, TorchIO and MONAI images are recognised by the name of their class: a library that the
caller does not use is never imported. ITK and ANTsPy say where voxels lie in LPS, the others in RAS+.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io.contents import check_voxels, reading
from uresnet.io.headers import LABEL_INTENT, checked_affine, checked_grid, checked_shape, says_orientation
from uresnet.io.series import Series
from uresnet.io.simpleitk import lps_affine, volume_of
from uresnet.io.volumes import as_image, as_labels, image_of, read_grid, read_image, read_labels

ImageSource = Any
"""An image as a caller may hold it: a path, an :class:`~uresnet.core.image.Image`, ``(array, affine)`` with (I, J, K)
values and the 4×4 matrix from voxel indices to RAS+ mm, or an image of nibabel, SimpleITK, ANTsPy, TorchIO or MONAI.
A mask is given in the same ways, or as a :class:`~uresnet.core.image.LabelMap`."""

KINDS = (
    "a path, an image of nibabel, SimpleITK, ANTsPy, TorchIO or MONAI, or (array, affine) with the voxel values and "
    "their 4×4 matrix to RAS millimetres"
)

_LABEL_HEADER = {"intent_code": LABEL_INTENT}

Volume = tuple[np.ndarray, Grid, bool]
"""Voxels (I, J, K), their grid, and whether somebody said how they lie."""


def check_source(function: str, argument: str, source: Any) -> None:
    """Raises :class:`UserError` that names the public ``function`` and its ``argument`` where ``source`` is nothing
    that is taken for an image. Looks at no voxel."""
    if isinstance(source, str | Path | Image | LabelMap) or _reader_of(source) is not None or _is_pair(source):
        return
    hint = " (an array alone does not say where its voxels lie)" if hasattr(source, "__array__") else ""
    raise UserError(f"{function}: {argument} is of type {type(source).__name__}{hint}; give {KINDS}.")


def image_from(source: ImageSource, argument: str = "") -> Image:
    """The image that ``source`` is or names. ``argument`` is its name in messages where it has no file.

    Raises :class:`UserError` as :func:`uresnet.io.read_image` does, and for what is no image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, str | Path):
        return read_image(source)
    title = f"the {argument} image".replace("the image image", "the image") if argument else "the image"
    return as_image(*_volume(source, title), path=_unchanged_file(source), title=title)


def labels_from(source: ImageSource, argument: str = "") -> LabelMap:
    """The label map or mask that ``source`` is or names; otherwise as :func:`image_from`."""
    if isinstance(source, LabelMap):
        return source
    if isinstance(source, str | Path):
        return read_labels(source)
    title = f"the {argument}" if argument else "the label map"
    if isinstance(source, Image):
        return as_labels(source.data.cpu().numpy(), source.grid, source.path or title)
    values, grid, _ = _volume(source, title)
    return as_labels(values, grid, title)


def grid_from(source: ImageSource, argument: str = "") -> Grid:
    """Only the grid of an image; of a file, only the header is read."""
    if isinstance(source, str | Path):
        return read_grid(source)
    return source.grid if isinstance(source, Image | LabelMap) else image_from(source, argument).grid


def held_series(source: ImageSource, argument: str = "") -> Series:
    """An image in memory as a series of one volume, its values as they are."""
    title = f"the {argument} image" if argument else "the image"
    if isinstance(source, Image | LabelMap):
        values, grid, title = _values(source), source.grid, source.path or title
    else:
        values, grid, _ = _volume(source, title)
    labels = isinstance(source, LabelMap)
    stored = values.dtype if values.dtype.kind in "iub" else None
    return Series(grid.shape, grid, title, values.dtype, stored, _LABEL_HEADER if labels else None, values)


def to_nibabel(image: Image | LabelMap) -> Any:
    """A ``nibabel.Nifti1Image`` in mm, qform = sform: what would be written to a file."""
    return image_of(_values(image), image.grid, Path("image.nii"))


def to_sitk(image: Image | LabelMap) -> Any:
    """A ``SimpleITK.Image``. Raises :class:`UserError` where SimpleITK is not installed."""
    try:
        import SimpleITK as sitk
    except ImportError:
        raise UserError("to_sitk needs SimpleITK; install it: pip install 'uresnet[formats]'.") from None
    grid = image.grid
    out: Any = sitk.GetImageFromArray(np.ascontiguousarray(_values(image).T))
    lps = lps_affine(grid.voxel_to_world)
    out.SetOrigin(lps[:3, 3].tolist())
    out.SetSpacing(grid.zooms.tolist())
    out.SetDirection((lps[:3, :3] / grid.zooms).ravel().tolist())
    return out


def _values(image: Image | LabelMap) -> np.ndarray:
    """(I, J, K): float32 of an image, the smallest of int16 and int32 of labels."""
    values = image.data.detach().cpu().numpy()
    if isinstance(image, Image):
        return np.asarray(values)
    small = values.min() >= -(2**15) and values.max() < 2**15
    return np.asarray(values.astype(np.int16 if small else np.int32))


# -- each library ------------------------------------------------------------------------------------------------------


def _volume(source: Any, name: str) -> Volume:
    """The voxels and the grid of an image in memory. Raises :class:`UserError` for what cannot be one."""
    reader = _reader_of(source) or _from_pair
    with reading(Path(name)):  # libraries that read their file only now raise anything
        values, grid, oriented = reader(source, Path(name))
    if values.dtype.kind not in "iufb":
        raise UserError(f"{name} holds values of type {values.dtype}; give an image with one number per voxel.")
    return np.ascontiguousarray(values), grid, oriented


def _from_nibabel(image: Any, name: Path) -> Volume:
    shape = checked_shape(name, image.shape)
    check_voxels(name, list(shape))
    values = np.asanyarray(image.dataobj).reshape(shape)
    known = isinstance(image, nib.Nifti1Pair | nib.MGHImage | nib.AnalyzeImage)
    if known and (image.affine is None or np.allclose(image.header.get_best_affine(), image.affine)):
        return values, checked_grid(name, image), says_orientation(image)
    if image.affine is None:
        raise UserError(f"{name} has no affine, so nobody knows where its voxels lie; give one with it.")
    return values, Grid(shape, checked_affine(name, np.asarray(image.affine, dtype=np.float64))), True


def _from_sitk(image: Any, name: Path) -> Volume:
    import SimpleITK as sitk  # whoever holds its image has it

    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{name} has several values per voxel; give an image with one grey value.")
    checked_shape(name, image.GetSize())
    return *volume_of(sitk, image, name), True


def _from_ants(image: Any, name: Path) -> Volume:
    if image.has_components or image.dimension != 3:
        raise UserError(f"{name} is no 3D image with one value per voxel; give one.")
    values = np.asarray(image.numpy())
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(image.direction, dtype=np.float64).reshape(3, 3) * np.array(image.spacing)
    lps[:3, 3] = image.origin
    return values, Grid(checked_shape(name, values.shape), checked_affine(name, lps_affine(lps))), True


def _from_torchio(image: Any, name: Path) -> Volume:
    return _from_channels(image.data, image.affine, name)


def _from_monai(image: Any, name: Path) -> Volume:
    if image.pending_operations:
        raise UserError(f"{name} has operations of MONAI that are still pending; evaluate them first.")
    affine = np.asarray(image.affine.detach().cpu(), dtype=np.float64)
    if "LPS" in str(image.meta.get("space", "RAS")):
        affine = lps_affine(affine)
    return _from_channels(image.as_tensor(), affine, name)


def _from_channels(data: Any, affine: Any, name: Path) -> Volume:
    """(I, J, K), or (1, I, J, K) with channels first."""
    values = _array(data)
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim > 3 and min(values.shape[3:]) > 1:
        raise UserError(f"{name} has the shape {values.shape}; give one volume with one channel.")
    return _from_pair((values, affine), name)


def _from_pair(pair: Any, name: Path) -> Volume:
    values, matrix = _array(pair[0]), np.asarray(_array(pair[1]), dtype=np.float64)
    shape = checked_shape(name, values.shape)
    check_voxels(name, list(shape))
    return values.reshape(shape), Grid(shape, checked_affine(name, matrix)), True


_READERS: dict[tuple[str, str], Callable[[Any, Path], Volume]] = {
    ("nibabel", "SpatialImage"): _from_nibabel,
    ("SimpleITK", "Image"): _from_sitk,
    ("ants", "ANTsImage"): _from_ants,
    ("torchio", "Image"): _from_torchio,
    ("monai", "MetaTensor"): _from_monai,
}
"""Package and class → what reads an object of that class, or of one that is made from it."""


def _reader_of(source: Any) -> Callable[[Any, Path], Volume] | None:
    names = ((kind.__module__.split(".")[0], kind.__name__) for kind in type(source).__mro__)
    return next((_READERS[name] for name in names if name in _READERS), None)


def _is_pair(source: Any) -> bool:
    """Whether it is ``(array, affine)``."""
    if not isinstance(source, tuple | list) or len(source) != 2:
        return False
    values, matrix = (getattr(item, "shape", None) for item in source)
    if matrix is None and isinstance(source[1], list | tuple):
        matrix = np.shape(source[1])
    return values is not None and len(values) >= 3 and tuple(matrix or ()) == (4, 4)


def _array(values: Any) -> np.ndarray:
    """A numpy array, of a torch tensor on any device too."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)


def _unchanged_file(source: Any) -> str:
    """The file that a nibabel image still reads its voxels from; empty for every other image, which may have changed
    since it was read."""
    if _reader_of(source) is not _from_nibabel or not nib.is_proxy(source.dataobj):
        return ""
    return str(source.get_filename() or "")
