"""What the header of a NIfTI, MGH or Analyze file claims, checked: dimensions, orientation, unit, shear.

A claim that cannot be right raises :class:`~uresnet.errors.UserError`; one that is probably right, or that has to be
replaced by an assumption, raises an :class:`~uresnet.errors.InputWarning`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolderError
from nibabel.spatialimages import HeaderDataError

from uresnet.core.grid import Grid, Shape
from uresnet.errors import UserError, warn_about_input

LABEL_INTENT = 1002
_VECTOR_INTENTS = (1004, 1005, 1006, 1007, 1009, 2003, 2004, 2006)  # matrices, vectors, quaternions, colours, warps

_ZOOMS_MM, _FARTHEST_MM = (1e-4, 1e3), 1e5  # what any scanner or microscope makes, in any room
_MAX_SHEAR = 0.01  # cosine between two axes: 0.6 degrees, up to 2 mm over a head
_NOTICEABLE_SHEAR = 1e-3
_TO_MM = {"meter": 1e3, "micron": 1e-3}
_HEAD_MM = (20.0, 1000.0)
_MAX_DISAGREEMENT_MM = 1.0  # between the two orientation matrices of a NIfTI header


def checked_grid(path: Path, image: Any, one_volume: bool = True) -> Grid:
    """The grid of a nibabel image, RAS+ mm. Raises :class:`UserError` for a header without a usable one."""
    shape = checked_shape(path, image.shape, one_volume)
    return Grid(shape, _affine_of(path, image, shape))


def checked_shape(path: Path, shape: tuple[int, ...], one_volume: bool = True) -> Shape:
    """(I, J, K) of an image's dimensions. Raises :class:`UserError` for less than three, and with ``one_volume`` for
    several volumes."""
    sizes = [int(n) for n in shape]
    if len(sizes) < 3 or min(sizes) < 1:
        raise UserError(f"{path} has {len(sizes)} dimensions of {sizes} voxels; give a 3D image.")
    volumes = int(np.prod(sizes[3:]))
    if one_volume and volumes > 1:
        raise UserError(f"{path} holds {volumes} volumes; give one 3D volume (for example the first, or their mean).")
    return sizes[0], sizes[1], sizes[2]


def series_shape(path: Path, image: Any) -> tuple[int, ...]:
    """(I, J, K) of one volume, (I, J, K, T) of a series. Raises :class:`UserError` as :func:`checked_shape`, and for a
    vector or tensor per voxel, which would have to be turned as well as moved."""
    shape = checked_shape(path, image.shape, one_volume=False)
    more = [int(n) for n in image.shape[3:] if n > 1]
    intent = int(image.header["intent_code"]) if isinstance(image, nib.Nifti1Pair) else 0
    if len(more) > 1 or (len(image.shape) > 4 and more) or intent in _VECTOR_INTENTS:
        raise UserError(
            f"{path} holds a vector or tensor per voxel {tuple(image.shape)}; those have to be turned as well as "
            "moved: for a transform use uresnet compose, for anything else give one number per voxel."
        )
    return (*shape, *more)


def checked_affine(path: Path, affine: np.ndarray) -> np.ndarray:
    """A voxel-to-world matrix (4, 4), mm, that has proved usable. Raises :class:`UserError` for a singular or sheared
    one."""
    if not _is_usable(affine):
        raise UserError(
            f"{path} has a singular affine (its voxels have no volume); repair its header, or convert it again."
        )
    zooms, origin = Grid((2, 2, 2), affine).zooms, np.abs(affine[:3, 3])
    if not _ZOOMS_MM[0] <= zooms.min() <= zooms.max() <= _ZOOMS_MM[1] or origin.max() > _FARTHEST_MM:
        sizes = " × ".join(f"{zoom:.3g}" for zoom in zooms)
        raise UserError(
            f"{path} has voxels of {sizes} mm, the first {origin.max():.3g} mm from the origin, which cannot be; "
            "repair its header, or convert it again."
        )
    shear = Grid((2, 2, 2), affine).shear
    if shear > _MAX_SHEAR:
        degrees = 90 - np.degrees(np.arccos(min(shear, 1)))
        raise UserError(
            f"{path} has a sheared affine ({degrees:.1f}° off right angles); resample it to a grid of boxes first."
        )
    if shear > _NOTICEABLE_SHEAR:
        warn_about_input(f"{path} has an affine with a slight shear; other programs may place it up to 1 mm elsewhere.")
    return affine


def units_of(header: Any) -> tuple[str, str]:
    """nibabel's names of the units of space and of time in a NIfTI header; "" and "unknown" for codes without one."""
    code = int(header["xyzt_units"])
    units = nib.nifti1.unit_codes
    space, time = code % 8, code - code % 8
    return (
        str(units.label[space]) if space in units else "",
        str(units.label[time]) if time in units else "unknown",
    )


def says_orientation(image: Any) -> bool:
    """Whether a nibabel image's header says which way its axes run."""
    if isinstance(image, nib.MGHImage):
        return bool(image.header["goodRASFlag"])
    if not isinstance(image, nib.Nifti1Pair):
        return False  # Analyze cannot say
    return bool(image.header["qform_code"]) or bool(image.header["sform_code"])


def _affine_of(path: Path, image: Any, shape: Shape) -> np.ndarray:
    if isinstance(image, nib.Nifti1Pair):
        affine = _nifti_affine(path, image, shape)
        return checked_affine(path, _in_mm(path, image.header, affine, shape))
    if isinstance(image, nib.AnalyzeImage):
        _check_sizes(path, image)
        warn_about_input(
            f"{path} is Analyze, which does not say left from right; its axes are assumed to run to the left, "
            "anterior and superior: check left and right in the result."
        )
    elif not says_orientation(image):
        warn_about_input(
            f"{path} does not say how it is oriented; FreeSurfer's standard (left, inferior, anterior) is assumed."
        )
    return checked_affine(path, np.asarray(image.affine, dtype=np.float64))


def _nifti_affine(path: Path, image: Any, shape: Shape) -> np.ndarray:
    """The sform, or the qform where the sform is absent or singular."""
    header = image.header
    sform = header.get_sform(coded=True)[0]
    try:
        qform = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        qform = None  # not a unit quaternion
    if sform is None or not _is_usable(sform):
        _check_sizes(path, image)
    if sform is not None and not _is_usable(sform) and qform is not None:
        warn_about_input(f"{path} has a broken sform; its qform is used.")
        return np.asarray(qform, dtype=np.float64)
    if sform is None and qform is None:
        warn_about_input(
            f"{path} does not say how it is oriented (no qform or sform); its axes are assumed to run to the left, "
            "anterior and superior: check left and right in the result."
        )
        return np.asarray(header.get_base_affine(), dtype=np.float64)
    if sform is not None and qform is not None:
        _compare(path, shape, sform, qform)
    return np.asarray(sform if sform is not None else qform, dtype=np.float64)


def _check_sizes(path: Path, image: Any) -> None:
    """The voxel sizes of the file itself, where they matter: nibabel reads 0 as 1 mm, and negative ones as positive.

    Raises :class:`UserError` for a size that is none."""
    sizes = _stored_sizes(image)
    if sizes is None:
        return
    shown = " × ".join(f"{size:.4g}" for size in sizes)
    if not np.isfinite(sizes).all() or (sizes == 0).any():
        raise UserError(f"{path} has voxels of {shown} mm, which cannot be; repair its header, or convert it again.")
    if (sizes < 0).any():
        warn_about_input(
            f"{path} has voxels of negative size ({shown} mm), taken as positive; check left and right in the result."
        )


def _stored_sizes(image: Any) -> np.ndarray | None:
    """(3,) as the file has them; None for an image in memory."""
    holder, kind = image.file_map.get("header", image.file_map["image"]), type(image.header)
    try:
        with holder.get_prepare_fileobj("rb") as file:
            block = file.read(kind.template_dtype.itemsize)
        return np.asarray(kind(block, check=False)["pixdim"][1:4], dtype=np.float64)
    except (OSError, FileHolderError):
        return None


def _compare(path: Path, shape: Shape, sform: np.ndarray, qform: np.ndarray) -> None:
    """Warns where the two orientation matrices of a NIfTI header differ."""
    if not _is_usable(sform) or not _is_usable(qform):
        return
    by_sform, by_qform = Grid(shape, sform), Grid(shape, qform)
    if by_sform.shear > _MAX_SHEAR:
        return
    apart = float(np.linalg.norm(by_sform.corners_world - by_qform.corners_world, axis=1).max())
    if apart > _MAX_DISAGREEMENT_MM:
        warn_about_input(f"{path} has a qform and an sform that differ by up to {apart:.0f} mm; the sform is used.")


def _in_mm(path: Path, header: Any, affine: np.ndarray, shape: Shape) -> np.ndarray:
    """The affine in mm where the header says metres or micrometres, unless only millimetres make the image a head's
    size: then the unit is the mistake."""
    unit = units_of(header)[0]
    if unit == "":
        warn_about_input(f"{path} gives its unit as a code that NIfTI does not have; taken as millimetres.")
    scale = _TO_MM.get(unit, 1.0)
    if scale == 1:
        return affine
    size = float((np.linalg.norm(affine[:3, :3], axis=0) * shape).max())
    if _HEAD_MM[0] <= size <= _HEAD_MM[1]:
        warn_about_input(
            f"{path} says that it is in {unit}s, which would make it {size * scale:g} mm wide; taken as millimetres."
        )
        return affine
    return np.asarray(np.diag([scale, scale, scale, 1.0]) @ affine)


def _is_usable(affine: np.ndarray) -> bool:
    try:
        Grid((2, 2, 2), affine)
    except ValueError:
        return False
    return True
