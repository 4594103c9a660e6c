"""Image files to images on grids, and back.

NIfTI-1/2 (``.nii``, ``.nii.gz``), FreeSurfer (``.mgz``, ``.mgh``) and Analyze (``.hdr`` with ``.img``) by nibabel;
NRRD, MetaImage and DICOM (a folder, a zip) by SimpleITK where it is installed. Whatever the file's own convention is,
grids are in RAS+ mm. A file that cannot be right raises :class:`~uresnet.errors.UserError`; one that is probably right
raises an :class:`~uresnet.errors.InputWarning` and is used.
"""

from __future__ import annotations

import contextlib
import gzip
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from uresnet.core.files import check_exist, write_bytes
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError, warn_about_input
from uresnet.io.dicom import is_dicom, read_dicom
from uresnet.io.headers import LABEL_INTENT, checked_grid, says_orientation, series_shape
from uresnet.io.label_tables import name_extensions, names_in
from uresnet.io.simpleitk import SIMPLEITK_SUFFIXES, read_with_simpleitk

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")

# What decompressing, parsing and scaling a damaged file can raise in nibabel and below it.
_DAMAGE = (
    *(ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, KeyError, OverflowError),
    *(WrapStructError, TypeError),  # a header that is cut off: NIfTI's within a whole gzip file, MGH's
)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> Image:
    """Read one volume as float32 (I, J, K) with its grid.

    Voxels that are not a number or infinite become 0, are marked in ``Image.invalid`` and warned about: whether they
    matter is decided where the brain is known. Raises :class:`UserError` for a file that is missing, damaged, not an
    image, holds several volumes or colours, or whose affine is singular or sheared.
    """
    volume, grid, oriented = _read_volume(Path(path))
    with np.errstate(over="ignore"):
        data = volume.astype(np.float32)
    invalid = ~np.isfinite(data)
    if not invalid.any():
        return Image(torch.from_numpy(data), grid, str(path), oriented=oriented)
    count = int(invalid.sum())
    data[invalid] = 0
    what = "1 voxel that is" if count == 1 else f"{count} voxels that are"
    warn_about_input(f"{path} has {what} not a number or infinite; set to 0.")
    return Image(torch.from_numpy(data), grid, str(path), torch.from_numpy(invalid), oriented)


def read_labels(path: str | Path) -> LabelMap:
    """Read a label map or mask as int16 (int32 if a value needs it) with its grid.

    Raises :class:`UserError` as :func:`read_image` does, and for values that are not whole numbers.
    """
    volume, grid, _ = _read_volume(Path(path))
    if volume.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = np.rint(volume)
            broken = ~np.isfinite(volume) | (np.abs(volume - whole) > 1e-3)
        if broken.any():
            example = float(volume[broken][0])
            raise UserError(f"{path} holds {example:g}, not only whole numbers; give a label map or a mask instead.")
        volume = whole
    if volume.size and (volume.min() < -(2**31) or volume.max() >= 2**31):
        raise UserError(f"{path} holds label values too large to be labels; give a label map or a mask instead.")
    small = volume.min() >= -(2**15) and volume.max() < 2**15
    return LabelMap(torch.from_numpy(volume.astype(np.int16 if small else np.int32)), grid, str(path))


def read_grid(path: str | Path) -> Grid:
    """Read only the grid of an image; several volumes are welcome. Raises as :func:`read_image` for the header."""
    path = Path(path)
    if is_dicom(path):
        return read_dicom(path)[1]
    _check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return read_with_simpleitk(path)[1]
    return checked_grid(path, _load(path), one_volume=False)


def _read_volume(path: Path) -> tuple[np.ndarray, Grid, bool]:
    """The voxels (I, J, K) in the file's own or its scaled dtype, the grid, and whether the file says how it lies."""
    if is_dicom(path):
        return *read_dicom(path), True
    _check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return *read_with_simpleitk(path), True
    image = _load(path, whole=True)
    grid = checked_grid(path, image)
    return _voxels(path, image, grid.shape), grid, says_orientation(image)


def _voxels(path: Path, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise UserError(f"{path} holds {_kind_of(dtype)}; give an image with one grey value per voxel.")
    try:
        with _quiet():
            data = np.asanyarray(image.dataobj)
    except MemoryError:
        raise UserError(
            f"{path} claims {shape} voxels, more than this computer's memory holds; check the file."
        ) from None
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return np.ascontiguousarray(data.reshape(shape), dtype=data.dtype.newbyteorder("="))


@dataclass(frozen=True, eq=False)
class Series:
    """One volume or several: ``values`` (I, J, K) or (I, J, K, T) as the file means them, on ``grid``.

    ``stored`` is the data type of a file whose whole numbers stand for themselves; None where values are fractions or
    scaled. ``header`` is a NIfTI header to take times, units and descriptions from, or None.
    """

    values: np.ndarray
    grid: Grid
    path: str
    stored: np.dtype | None
    header: Any = None

    @property
    def volumes(self) -> list[np.ndarray]:
        """Each (I, J, K)."""
        return [self.values[..., t] for t in range(self.values.shape[3])] if self.values.ndim == 4 else [self.values]

    @property
    def called_labels(self) -> bool:
        """Whether the header says that the values are labels (NIfTI's intent 1002)."""
        return self.header is not None and int(self.header["intent_code"]) == LABEL_INTENT

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        if self.values.dtype.kind in "iub":
            return True
        return bool(np.isfinite(self.values).all() and (self.values == np.rint(self.values)).all())


def read_series(path: str | Path) -> Series:
    """Read all volumes of an image, as they are. Raises as :func:`read_image`, and for vectors, which would have to be
    turned as well as moved."""
    path = Path(path)
    if is_dicom(path) or _suffix(path) in SIMPLEITK_SUFFIXES:
        values, grid, _ = _read_volume(path)
        return Series(values, grid, str(path), values.dtype if values.dtype.kind in "iu" else None)
    _check_file(path)
    image = _load(path, whole=True)
    shape = series_shape(path, image)
    grid = checked_grid(path, image, one_volume=False)
    values = _voxels(path, image, shape)
    header = image.header if isinstance(image, nib.Nifti1Pair) else None
    stored = image.get_data_dtype()
    unscaled = (
        header is None or not hasattr(image.dataobj, "slope") or (image.dataobj.slope, image.dataobj.inter) == (1, 0)
    )
    return Series(values, grid, str(path), stored if stored.kind in "iub" and unscaled else None, header)


def _check_file(path: Path) -> None:
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


def _load(path: Path, whole: bool = False) -> Any:
    """The nibabel image. ``whole`` unpacks a compressed file to its end, where its checksum is: nibabel stops after
    the last voxel."""
    try:
        with _quiet():
            if not whole or _suffix(path) not in (".nii.gz", ".mgz"):
                return nib.load(path)
            content = gzip.decompress(path.read_bytes())
            return _class_of(path, content).from_bytes(content)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _class_of(path: Path, content: bytes) -> Any:
    if _suffix(path) == ".mgz":
        return nib.MGHImage
    return nib.Nifti2Image if nib.Nifti2Header.may_contain_header(content) else nib.Nifti1Image


def _damaged(path: Path, error: BaseException) -> UserError:
    of_truncation = ("Expected", "end-of-stream", "too small", "wrong size")
    if isinstance(error, EOFError) or any(words in str(error) for words in of_truncation):
        return UserError(f"{path} is truncated: it ends before its last voxel; copy or download it again.")
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return UserError(f"{path} is damaged (its compressed content does not unpack); copy or download it again.")
    return UserError(f"{path} is not an image that can be read; check that it is the file you mean, or copy it again.")


def _kind_of(dtype: np.dtype) -> str:
    return "colours" if dtype.kind == "V" else "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"


# -- writing ---------------------------------------------------------------------------------------------------------


def write_image(image: Image, path: str | Path) -> None:
    """Write float32 in mm, qform = sform. Raises :class:`UserError` for a name or folder that cannot be written."""
    _write(image.data.detach().cpu().numpy().astype(np.float32), image.grid, Path(path))


def write_labels(labels: LabelMap, path: str | Path, scheme: LabelScheme | None = None) -> None:
    """Write int16 (int32 if a value needs it), otherwise as :func:`write_image`. With a ``scheme``, a NIfTI file also
    holds the names and colours of its ids, and the intent "label"."""
    values = labels.data.detach().cpu().numpy()
    small = values.min() >= -(2**15) and values.max() < 2**15
    names = {} if scheme is None else name_extensions(scheme)
    _write(values.astype(np.int16 if small else np.int32), labels.grid, Path(path), extensions=names)


def write_series(values: np.ndarray, grid: Grid, path: str | Path, source: Series, names: bool = False) -> None:
    """Write (I, J, K) or (I, J, K, T) on ``grid`` in the array's own data type, with the times, the intent and the
    description of the file it was made from, and with ``names`` the label names in it (Workbench's extension). Raises
    as :func:`write_image`."""
    path = Path(path)
    if _suffix(path) in (".mgz", ".mgh") and values.dtype not in (np.uint8, np.int16, np.int32, np.float32):
        whole = values.dtype.kind in "iub" and np.abs(values).max(initial=0) < 2**31
        values = values.astype(np.int32 if whole else np.float32)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    _write(values, grid, path, source.header, names_in(source.header) if names else None)


def _write(
    data: np.ndarray, grid: Grid, path: Path, header: Any = None, extensions: Mapping[int, bytes] | None = None
) -> None:
    """``header``: the NIfTI header of the file that the data were made from. ``extensions``: code → content."""
    suffix = _suffix(path)
    if suffix not in WRITABLE_SUFFIXES:
        raise UserError(
            f"{path} is not a file type that can be written ({', '.join(WRITABLE_SUFFIXES)}); choose another name."
        )
    image: Any
    if suffix in (".mgz", ".mgh"):
        image = nib.MGHImage(data, grid.voxel_to_world)
    else:
        # NIfTI-1 has 16 bits for the number of voxels along an axis.
        kind: Any = nib.Nifti1Image if max(grid.shape) < 2**15 else nib.Nifti2Image
        image = kind(data, grid.voxel_to_world, dtype=data.dtype)
        if header is not None:
            _keep_meaning(image.header, header)
        image.set_sform(grid.voxel_to_world, code=1)
        image.set_qform(grid.voxel_to_world, code=1)
        image.header.set_xyzt_units("mm", "unknown" if header is None else header.get_xyzt_units()[1])
        if extensions:
            image.header.set_intent("label")
            image.header.extensions += [nib.nifti1.Nifti1Extension(*item) for item in extensions.items()]
    content = image.to_bytes()
    if suffix in (".nii.gz", ".mgz"):
        # As small as gzip's level 1 and eight times as fast; without a time stamp, the same data make the same file.
        content = igzip.compress(content, 2, mtime=0)
    write_bytes(content, path)


def _keep_meaning(header: Any, source: Any) -> None:
    """Copies what says neither where an image lies nor how it is stored: intent, description, times."""
    intent = ("intent_code", "intent_p1", "intent_p2", "intent_p3", "intent_name")
    for field in (*intent, "descrip", "aux_file", "toffset"):
        header[field] = source[field]
    header["pixdim"][4:] = source["pixdim"][4:]


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without nibabel's log of repaired header fields on standard error; what matters is warned about by us."""
    with LoggingOutputSuppressor(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
