"""Image files to images on grids, and back.

NIfTI-1/2 (``.nii``, ``.nii.gz``), FreeSurfer (``.mgz``, ``.mgh``) and Analyze (``.hdr`` with ``.img``) by nibabel;
NRRD, MetaImage and DICOM (a folder, a zip) by SimpleITK where it is installed. Whatever the file's own convention is,
grids are in RAS+ mm. A file that cannot be right raises :class:`~uresnet.errors.UserError`; one that is probably right
raises an :class:`~uresnet.errors.InputWarning` and is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from isal import igzip

from uresnet.core.background import label_background
from uresnet.core.choices import check_choices
from uresnet.core.files import check_exist, write_bytes
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError, warn_about_input
from uresnet.io.contents import Volume, check_to_the_end, is_gzip, opened, reading
from uresnet.io.dicom import is_dicom, read_dicom
from uresnet.io.headers import checked_grid, says_orientation, units_of
from uresnet.io.kinds import is_whole
from uresnet.io.label_tables import name_extensions
from uresnet.io.simpleitk import SIMPLEITK_SUFFIXES, read_with_simpleitk

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
COMPRESSION = 2


# -- reading ---------------------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> Image:
    """Read one volume as float32 (I, J, K) with its grid.

    Voxels that are not a number or infinite become 0, are marked in ``Image.invalid`` and warned about: whether they
    matter is decided where the brain is known. Raises :class:`UserError` for a file that is missing, damaged, not an
    image, holds several volumes or colours, or whose affine is singular or sheared.

    >>> import uresnet
    >>> uresnet.read_image("image.nii.gz")
    <Image 52 × 56 × 40, LAS, 3.2 × 3.9 × 3.8 mm>
    """
    check_choices("uresnet.read_image", path=(path, str | Path))
    values, grid, oriented, chosen = read_volume(Path(path))
    return replace(as_image(values, grid, oriented, path=str(path)), chosen=chosen)


def as_image(volume: np.ndarray, grid: Grid, oriented: bool, path: str, title: str = "") -> Image:
    """Voxels (I, J, K) as an image, cleaned as :func:`read_image` says; ``title`` is its name where it has no
    ``path``."""
    with np.errstate(over="ignore"):
        data = volume.astype(np.float32)
    invalid = ~np.isfinite(data)
    if not invalid.any():
        return Image(torch.from_numpy(data), grid, path, oriented=oriented, title=title)
    if invalid.all():
        raise UserError(f"{path or title} holds no numbers at all; check that it is the image you mean.")
    count = int(invalid.sum())
    data[invalid] = 0
    what = "1 voxel that is" if count == 1 else f"{count} voxels that are"
    warn_about_input(f"{path or title} has {what} not a number or infinite; set to 0.")
    return Image(torch.from_numpy(data), grid, path, torch.from_numpy(invalid), oriented, title)


def read_labels(path: str | Path) -> LabelMap:
    """Read a label map or mask as int16 (int32 if a value needs it) with its grid.

    Voxels that are not a number or infinite become background and are warned about. Raises :class:`UserError` as
    :func:`read_image` does, and for values that are not whole numbers.

    >>> import uresnet
    >>> uresnet.read_labels("moving_dseg.nii.gz").mask.any()
    tensor(True)
    """
    check_choices("uresnet.read_labels", path=(path, str | Path))
    volume, grid, *_ = read_volume(Path(path))
    return as_labels(volume, grid, str(path))


def as_labels(volume: np.ndarray, grid: Grid, path: str) -> LabelMap:
    """Voxels (I, J, K) as a label map, checked as :func:`read_labels` says; ``path`` is its name in messages."""
    if volume.dtype.kind == "f":
        volume = _as_whole(Path(path), volume)
    if volume.size and (volume.min() < -(2**31) or volume.max() >= 2**31):
        raise UserError(f"{path} holds label values too large to be labels; give a label map or a mask instead.")
    small = volume.min() >= -(2**15) and volume.max() < 2**15
    return LabelMap(torch.from_numpy(volume.astype(np.int16 if small else np.int32)), grid, path)


def _as_whole(path: Path, volume: np.ndarray) -> np.ndarray:
    finite = np.isfinite(volume)
    if not finite.any():
        raise UserError(f"{path} holds no numbers at all; give a label map or a mask instead.")
    if not is_whole(volume):
        values = volume[finite]
        example = float(values[np.abs(values - np.rint(values)).argmax()])
        raise UserError(f"{path} holds {example:g}, not only whole numbers; give a label map or a mask instead.")
    if not finite.all():
        background = label_background(volume)
        warn_about_cleaned(path, int((~finite).sum()), background)
        volume = np.where(finite, volume, background)
    return np.asarray(np.rint(volume))


def warn_about_cleaned(path: str | Path, count: int, background: float) -> None:
    """Warn that ``count`` voxels without a number were taken as ``background``."""
    what = "1 voxel that is" if count == 1 else f"{count} voxels that are"
    warn_about_input(f"{path} has {what} not a number or infinite; taken as background ({background:g}).")


def read_grid(path: str | Path) -> Grid:
    """Read only the grid of an image; several volumes are welcome. Raises as :func:`read_image` for the header."""
    path = Path(path)
    if is_dicom(path):
        return read_dicom(path).grid
    check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return read_with_simpleitk(path)[1]
    with opened(path) as image, reading(path):
        return checked_grid(path, image, one_volume=False)


def read_volume(path: Path) -> Volume:
    """One volume of any kind of file. Raises :class:`UserError` as :func:`read_image`."""
    if is_dicom(path):
        return read_dicom(path)
    check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return Volume(*read_with_simpleitk(path), True)
    with opened(path) as image, reading(path):
        grid = checked_grid(path, image)
        check_numbers(path, image)
        data = np.asanyarray(image.dataobj).reshape(grid.shape)
        check_to_the_end(path, image)
        values = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
        return Volume(values, grid, says_orientation(image))


def check_numbers(path: Path, image: Any) -> None:
    """Raises :class:`UserError` for a nibabel image whose voxels are not numbers."""
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise UserError(f"{path} holds {_kind_of(dtype)}; give an image with one grey value per voxel.")


def check_file(path: Path) -> None:
    """Every check that is possible before a header is parsed."""
    check_exist(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give one image file, or a folder of DICOM files.")
    suffix = _suffix(path)
    if suffix not in NIBABEL_SUFFIXES + SIMPLEITK_SUFFIXES:
        known = ", ".join(NIBABEL_SUFFIXES + SIMPLEITK_SUFFIXES)
        raise UserError(f"{path} is not a file type that can be read ({known}); convert it to NIfTI first.")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not start:
        raise UserError(f"{path} is empty; copy or download it again.")
    if b"annex/objects" in start or start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is only a pointer to the image; fetch its content first (git annex get, or git lfs pull)."
        )
    if start.lstrip()[:15].lower().startswith((b"<html", b"<!doctype", b"<?xml")):
        raise UserError(f"{path} is a web page, not an image; download it again.")
    zipped = start.startswith(b"\x1f\x8b")
    if suffix in (".nii.gz", ".mgz") and not zipped:
        raise UserError(f"{path} is not a gzip file although its name says so; rename it or download it again.")
    if suffix in (".nii", ".mgh") and zipped:
        raise UserError(f"{path} is a gzip file although its name does not say so; rename it to end in .gz or .mgz.")


def _kind_of(dtype: np.dtype) -> str:
    return "colours" if dtype.kind == "V" else "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"


# -- writing ---------------------------------------------------------------------------------------------------------


def write_image(image: Image, path: str | Path) -> None:
    """Write float32 in mm, qform = sform. Raises :class:`UserError` for a name or folder that cannot be written."""
    _write(image.data.detach().cpu().numpy().astype(np.float32), image.grid, Path(path))


def nifti_bytes(image: Image) -> bytes:
    """The content of the .nii.gz file that :func:`write_image` writes."""
    path = Path("image.nii.gz")
    data = image.data.detach().cpu().numpy().astype(np.float32)
    return packed(image_of(data, image.grid, path).to_bytes(), path)


def write_labels(labels: LabelMap, path: str | Path, scheme: LabelScheme | None = None) -> None:
    """Write int16 (int32 if a value needs it), otherwise as :func:`write_image`. With a ``scheme``, a NIfTI file also
    holds the names and colours of its ids, and the intent "label"."""
    values = labels.data.detach().cpu().numpy()
    small = values.min() >= -(2**15) and values.max() < 2**15
    names = {} if scheme is None else name_extensions(scheme)
    _write(values.astype(np.int16 if small else np.int32), labels.grid, Path(path), names)


def _write(data: np.ndarray, grid: Grid, path: Path, extensions: Mapping[int, bytes] | None = None) -> None:
    write_bytes(packed(image_of(data, grid, path, None, extensions).to_bytes(), path), path)


def packed(content: bytes, path: Path) -> bytes:
    """The content, compressed where the name says so. The same data make the same file."""
    # As small as gzip's level 1 and eight times as fast; without a time stamp.
    return igzip.compress(content, COMPRESSION, mtime=0) if is_gzip(path) else content


def image_of(
    data: np.ndarray, grid: Grid, path: Path, header: Any = None, extensions: Mapping[int, bytes] | None = None
) -> Any:
    """The nibabel image of (I, J, K) or (I, J, K, T) on ``grid`` for a file named ``path``, in mm, qform = sform.

    ``header``: the NIfTI header of the file that the data were made from. ``extensions``: code → content. Raises
    :class:`UserError` for a name whose ending cannot be written.
    """
    suffix = _suffix(path)
    if suffix not in WRITABLE_SUFFIXES:
        raise UserError(
            f"{path} is not a file type that can be written ({', '.join(WRITABLE_SUFFIXES)}); choose another name."
        )
    if suffix in (".mgz", ".mgh"):
        return nib.MGHImage(data, grid.voxel_to_world)
    # NIfTI-1 has 16 bits for the number of voxels along an axis.
    kind: Any = nib.Nifti1Image if max(data.shape) < 2**15 else nib.Nifti2Image
    image: Any = kind(data, grid.voxel_to_world, dtype=data.dtype)
    if header is not None:
        _keep_meaning(image.header, header)
    image.set_sform(grid.voxel_to_world, code=1)
    image.set_qform(grid.voxel_to_world, code=1)
    image.header.set_xyzt_units("mm", "unknown" if header is None else units_of(header)[1])
    if extensions:
        image.header.set_intent("label")
        image.header.extensions += [nib.nifti1.Nifti1Extension(*item) for item in extensions.items()]
    return image


def _keep_meaning(header: Any, source: Any) -> None:
    """Copies what says neither where an image lies nor how it is stored: intent, description, times."""
    intent = ("intent_code", "intent_p1", "intent_p2", "intent_p3", "intent_name")
    for field in (*intent, "descrip", "aux_file", "toffset"):
        header[field] = source[field]
    header["pixdim"][4:] = source["pixdim"][4:]


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()
